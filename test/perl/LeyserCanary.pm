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
our @EXPORT = qw(make_markers write_markers markers_found marker_places);

my $piece = 6;

# Random markers of upper-case letters, which nothing else in a data directory has
# in such numbers.  Other tenants' markers are lower-case.
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

# How often pieces occur in one file.
sub file_count
{
	my ($file, $pieces) = @_;
	my $found = 0;
	my $content;

	open(my $handle, '<:raw', $file) or return 0;
	$content = do { local $/; <$handle> };
	close $handle;
	while ($content =~ /([A-Z]{$piece,})/g)
	{
		my $run = $1;

		$found += grep { exists $pieces->{ substr($run, $_, $piece) } } 0 .. length($run) - $piece;
	}
	return $found;
}

# Searches folders (tablespaces' links are followed): a count for each file that
# has pieces.
sub marker_places
{
	my ($markers, @folders) = @_;
	my $pieces = pieces_of($markers);
	my %places;

	find({ follow_fast => 1, follow_skip => 2, no_chdir => 1, wanted => sub {
		return unless -f $_;
		my $count = file_count($_, $pieces);
		$places{$_} = $count if $count > 0;
	} }, @folders);
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
