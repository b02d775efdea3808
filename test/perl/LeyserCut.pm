# LeyserCut.pm
#
# What a disk would keep of files that a server gives back: a library that is
# preloaded into the server keeps a copy of each file in its last moment, before it
# is cut to nothing or removed with something in it.

package LeyserCut;

use strict;
use warnings;

use PostgreSQL::Test::Utils;

use Exporter qw(import);
our @EXPORT = qw(start_with_copies forget_copies copies_of);

my $source = <<'C';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void keep(const char *path)
{
	static int number = 0;
	const char *folder = getenv("LEYSER_COPIES");
	char name[4096], part[65536];
	struct stat info;
	int from, to;
	ssize_t got;

	if (folder == NULL || strncmp(path, "base/", 5) != 0 || stat(path, &info) != 0 || info.st_size == 0)
		return;
	snprintf(name, sizeof(name), "%s/%s.%d.%d", folder, strrchr(path, '/') + 1, (int) getpid(), number++);
	from = open(path, O_RDONLY);
	to = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (from < 0 || to < 0)
		abort();
	while ((got = read(from, part, sizeof(part))) > 0)
		if (write(to, part, got) != got)
			abort();
	close(from);
	close(to);
}

int truncate(const char *path, off_t length)
{
	if (length == 0)
		keep(path);
	return ((int (*)(const char *, off_t)) dlsym(RTLD_NEXT, "truncate"))(path, length);
}

int truncate64(const char *path, off64_t length)
{
	return truncate(path, length);
}

int unlink(const char *path)
{
	keep(path);
	return ((int (*)(const char *)) dlsym(RTLD_NEXT, "unlink"))(path);
}
C

# Starts a node that keeps copies; gives the folder of the copies.
sub start_with_copies
{
	my ($node) = @_;
	my $base = $node->basedir;

	mkdir "$base/copies" or die "could not make a folder: $!";
	append_to_file("$base/cut.c", $source);
	system_or_bail('gcc', '-shared', '-fPIC', '-O2', '-o', "$base/cut.so", "$base/cut.c", '-ldl');
	local $ENV{LEYSER_COPIES} = "$base/copies";
	local $ENV{LD_PRELOAD} = "$base/cut.so";
	$node->start;
	return "$base/copies";
}

sub forget_copies
{
	my ($folder) = @_;

	unlink glob "$folder/*";
	return;
}

# How many copies there are of files whose numbers match; how many hold anything but
# zeros, and how often a marker is in them.
sub copies_of
{
	my ($folder, $marker, @numbers) = @_;
	my %wanted = map { $_ => 1 } @numbers;
	my %found = (copies => 0, written => 0, markers => 0);

	foreach my $file (glob "$folder/*")
	{
		my ($number) = $file =~ m{/(\d+)[^/]*$};
		next if !defined $number || @numbers && !$wanted{$number};
		my $content = slurp_file($file);

		$found{copies}++;
		$found{written}++ if $content =~ /[^\0]/;
		$found{markers}++ while $content =~ /$marker/g;
	}
	return \%found;
}

1;
