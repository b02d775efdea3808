# The guides, and the README in Japanese: what they show is what happens.

use strict;
use warnings;

use LeyserDocument;
use Test::More;

foreach my $document (qw(doc/guide-dba.md doc/guide-application.md doc/guide-auditor.md README.ja.md))
{
	test_document($document);
}
done_testing();
