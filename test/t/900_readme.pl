# What the README shows is what happens.
#
# Its code blocks are run in order, as a reader would paste them:
#
#   ```sql     one psql session; its first line says "-- as ROLE in DATABASE"
#   ```text    right after another block: what that one prints.  "…" stands for
#              whatever a run makes anew: ids, times, tokens
#   ```sh      in a folder of its own, which keeps its files from block to block;
#              a block that begins with "# as root" changes the machine and is
#              not run here
#   ```python  in the same folder
#
# A block without a following ```text block must work to its end.  Other blocks
# (```ini …) are not run.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Python's packages are Debian's, whatever other python3 is in the PATH.
my %interpreters = (
	sql => [ 'psql', '-X', '-q', '-v', 'SHOW_CONTEXT=never', '-P', 'pager=off' ],
	sh => [ 'bash', '-eu' ],
	python => ['/usr/bin/python3'],
);

# The blocks of a Markdown file: language, text, line, and expected output.
sub blocks_of
{
	my ($file) = @_;
	my (@blocks, $block);
	my $line = 0;

	foreach my $text (split /\n/, slurp_file($file))
	{
		$line++;
		if ($block && $text eq '```')
		{
			if ($block->{language} eq 'text' && @blocks)
			{
				$blocks[-1]{expected} = $block->{text};
			}
			elsif ($interpreters{ $block->{language} })
			{
				push @blocks, $block;
			}
			$block = undef;
		}
		elsif ($block)
		{
			$block->{text} .= "$text\n";
		}
		elsif ($text =~ /^```(\w+)$/)
		{
			$block = { language => $1, text => '', line => $line };
		}
	}
	return @blocks;
}

# How wide the columns are and empty lines do not count.
sub tidy
{
	my ($text) = @_;

	return join "\n", grep { $_ ne '' }
	  map { s/\s+$//r =~ s/ +/ /gr =~ s/--+/-/gr } split /\n/, $text;
}

sub matches
{
	my ($got, $expected) = @_;
	my $pattern = join '.*?', map { quotemeta } split /\xe2\x80\xa6/, $expected, -1;

	return $got =~ /\A$pattern\z/s;
}

# Arguments: a block, the folder to run it in.
sub run_block
{
	my ($block, $folder) = @_;
	my @command = @{ $interpreters{ $block->{language} } };
	my $output = '';

	if ($block->{language} eq 'sql')
	{
		my ($role, $database) = $block->{text} =~ /\A-- as (\w+) in (\w+)\n/
		  or return (0, 'its first line is not "-- as ROLE in DATABASE"');
		push @command, '-v', 'ON_ERROR_STOP=1' unless defined $block->{expected};
		push @command, '-U', $role, '-d', $database;
	}
	IPC::Run::run(\@command, '<', \$block->{text}, '>&', \$output,
		init => sub { chdir $folder or die "could not enter $folder" });
	return ($? == 0, $output);
}

my $folder = PostgreSQL::Test::Utils::tempdir;
my $backups = PostgreSQL::Test::Utils::tempdir;
my $node = new_node('readme',
	init => { allows_streaming => 1 },
	extension => 0,
	conf => "listen_addresses = 'localhost'\nleyser.backup_directory = '$backups'\n");
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGUSER} = 'postgres';
local $ENV{PGPASSWORD} = 'none';

foreach my $block (blocks_of(dirname(dirname(dirname(abs_path(__FILE__)))) . '/README.md'))
{
	next if $block->{text} =~ /\A# as root/;
	my ($works, $output) = run_block($block, $folder);
	my $name = "the $block->{language} block at line $block->{line}";

	if (defined $block->{expected})
	{
		ok(matches(tidy($output), tidy($block->{expected})), "$name prints what the README says")
		  or diag($output);
	}
	else
	{
		ok($works, "$name works") or diag($output);
	}
}

$node->stop;
done_testing();
