# LeyserDocument.pm
#
# Runs the code blocks of README.md and of doc/*.md as a reader would paste them:
#
#   ```sql     one psql session; its first line says "-- as ROLE in DATABASE", and
#              "on NAME" behind that where it is the server of whose port PORT_OF_NAME tells
#   ```text    right after another block: what that one prints.  "…" stands for
#              whatever a run makes anew: ids, times, tokens
#   ```sh      in a folder of its own, which keeps its files from block to block;
#              a block that begins with "# as root" changes the machine and is
#              not run
#   ```python  in the same folder.  Where its first line says "# FILE.py" it is kept as
#              that file for later ones, and run only where it prints something
#   ```ruby    the same
#   ```js      the same for Node.js; its first line says "// FILE"
#
# Those for Ruby and Node.js, and of sh those that begin with "# with npm", need what only
# "make check-long" installs.
# A block without a following ```text block must work to its end.  Other blocks
# (```ini …) are not run.  Those in an HTML comment are: a reader finds the same done,
# say a server that is lost.

package LeyserDocument;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(document_node document_blocks test_block test_document);

my $root = dirname(dirname(dirname(abs_path(__FILE__))));

# Python's packages are Debian's, whatever other python3 is in the PATH.
my %lookers = (python => [ '-m', 'py_compile' ], ruby => ['-c'], js => ['--check']);
my %interpreters = (
	sql => [ 'psql', '-X', '-q', '-v', 'SHOW_CONTEXT=never', '-P', 'pager=off' ],
	sh => [ 'bash', '-eu' ],
	python => ['/usr/bin/python3'],
	ruby => ['/usr/bin/ruby'],
	js => ['node'],
);

my $nodes = 0;

# A node without leyser yet, which psql and the drivers find by the environment.
# Arguments: more lines of postgresql.conf.
sub document_node
{
	my @settings = @_;
	my $backups = PostgreSQL::Test::Utils::tempdir;
	my $node = new_node('document_' . ++$nodes,
		init => { allows_streaming => 1 },
		extension => 0,
		conf => join("\n", "listen_addresses = 'localhost'",
			"leyser.backup_directory = '$backups'", @settings, ''));

	$ENV{PGHOST} = $node->host;
	$ENV{PGPORT} = $node->port;
	$ENV{PGUSER} = 'postgres';
	$ENV{PGPASSWORD} = 'none';
	return $node;
}

# The blocks of a document that can be run: language, text, line, and expected output.
# Arguments: its path in the checkout.
sub document_blocks
{
	my ($document) = @_;
	my (@blocks, $block);
	my $line = 0;

	foreach my $text (split /\n/, slurp_file("$root/$document"))
	{
		$line++;
		if ($block && $text eq '```')
		{
			if ($block->{language} eq 'text' && @blocks)
			{
				$blocks[-1]{expected} = $block->{text};
			}
			elsif ($interpreters{ $block->{language} } && $block->{text} !~ /\A# as root/)
			{
				$block->{long} =
				  $block->{language} =~ /^(?:js|ruby)$/ || $block->{text} =~ /\A# with npm/;
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
			$block = { document => $document, language => $1, text => '', line => $line };
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

# The name of the file that a block is to be kept as, if any.
sub file_of
{
	my ($block) = @_;
	my ($name) = $block->{text} =~ m{\A(?://|#) ((?:\w+/)?\w+\.(?:js|py|rb))\n};

	return $name;
}

# Keeps a block as a file; gives what runs that file, or looks at it only.
sub keep_file
{
	my ($block, $folder, $name) = @_;

	mkdir dirname("$folder/$name");
	open my $file, '>', "$folder/$name" or die "could not write $folder/$name: $!";
	print $file $block->{text};
	close $file or die "could not write $folder/$name: $!";
	return defined $block->{expected} ? ($name) : (@{ $lookers{ $block->{language} } }, $name);
}

# Arguments: a block, the folder to run it in.
sub run_block
{
	my ($block, $folder) = @_;
	my @command = @{ $interpreters{ $block->{language} } };
	my $output = '';

	if ($block->{language} eq 'sql')
	{
		my ($role, $database, $server) = $block->{text} =~ /\A-- as (\w+) in (\w+)(?: on (\w+))?\n/
		  or return (0, 'its first line is not "-- as ROLE in DATABASE"');
		push @command, '-v', 'ON_ERROR_STOP=1' unless defined $block->{expected};
		push @command, '-U', $role, '-d', $database;
		push @command, '-p', $ENV{"PORT_OF_$server"} if defined $server;
	}
	push @command, keep_file($block, $folder, file_of($block)) if defined file_of($block);
	IPC::Run::run(\@command, '<', \$block->{text}, '>&', \$output,
		init => sub { chdir $folder or die "could not enter $folder" });
	return ($? == 0, $output);
}

# One test: the block works, or prints what the document says.
# Arguments: a block, the folder to run it in.
sub test_block
{
	my ($block, $folder) = @_;
	my ($works, $output) = run_block($block, $folder);
	my $name = "$block->{document}: the $block->{language} block at line $block->{line}";

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	if (defined $block->{expected})
	{
		ok(matches(tidy($output), tidy($block->{expected})), "$name prints what it says")
		  or diag($output);
	}
	else
	{
		ok($works, "$name works") or diag($output);
	}
	return;
}

# A document from its first block to its last, on a node of its own.
# Arguments: its path in the checkout.
sub test_document
{
	my ($document) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir;
	my $node = document_node();

	test_block($_, $folder) foreach grep { !$_->{long} } document_blocks($document);
	$node->stop;
	return;
}

1;
