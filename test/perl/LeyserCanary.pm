# LeyserCanary.pm
#
# Markers: random strings in the rows of a tenant, which are searched in raw files.
#
# A marker is looked for by its pieces: an index keeps parts of values, compression
# breaks them up, and a row leaves up to seven bytes behind in an alignment pad.

package LeyserCanary;

use strict;
use warnings;

use File::Find;
use PostgreSQL::Test::Utils;

use Exporter qw(import);
our @EXPORT = qw(learn_known make_markers write_markers markers_found marker_places);

my $piece = 6;

# Pieces that a server has by itself: words of its catalogues.
my %known;

# Learns them from folders that have no markers yet.
sub learn_known
{
	my (@folders) = @_;

	each_file(sub { $known{$_} = 1 foreach @{ file_pieces($_[0]) } }, @folders);
	return;
}

# Random markers of upper-case letters.  Other tenants' are lower-case, and so can
# never have the same pieces.
sub make_markers
{
	my ($count, @alphabet) = @_;

	@alphabet = ('A' .. 'Z') unless @alphabet;
	return [ map { join('', map { $alphabet[ rand @alphabet ] } 1 .. 32) } 1 .. $count ];
}

# The file from which test/canary/rows.sql copies.
sub write_markers
{
	my ($file, %markers) = @_;
	my $content = '';

	foreach my $tenant (sort keys %markers)
	{
		my $number = 0;

		$content .= join("\t", $tenant, ++$number, $_) . "\n" foreach @{ $markers{$tenant} };
	}
	append_to_file($file, $content);
	return;
}

# All pieces of all markers, as keys.
sub pieces_of
{
	my ($markers) = @_;
	my %pieces;

	foreach my $marker (@$markers)
	{
		$pieces{ substr($marker, $_, $piece) } = 1 foreach 0 .. length($marker) - $piece;
	}
	return \%pieces;
}

# All pieces in one file that are upper-case, whosever they are.
sub file_pieces
{
	my ($file) = @_;
	my @found;
	my $content;

	open(my $handle, '<:raw', $file) or return [];
	$content = do { local $/; <$handle> };
	close $handle;
	while ($content =~ /([A-Z]{$piece,})/g)
	{
		my $run = $1;

		push @found, map { substr($run, $_, $piece) } 0 .. length($run) - $piece;
	}
	return \@found;
}

# Calls a function for all files below folders (tablespaces' links are followed).
sub each_file
{
	my ($function, @folders) = @_;

	find({ follow_fast => 1, follow_skip => 2, no_chdir => 1, wanted => sub { $function->($_) if -f $_ } }, @folders);
	return;
}

# Searches folders: a count for each file that has pieces of markers.
sub marker_places
{
	my ($markers, @folders) = @_;
	my $pieces = pieces_of($markers);
	my %places;

	delete @{$pieces}{ keys %known };
	each_file(sub {
		my ($file) = @_;
		my $count = grep { exists $pieces->{$_} } @{ file_pieces($file) };

		$places{$file} = $count if $count > 0;
	}, @folders);
	return \%places;
}

# The sum.
sub markers_found
{
	my $places = marker_places(@_);
	my $sum = 0;

	$sum += $_ foreach values %$places;
	return $sum;
}

1;
