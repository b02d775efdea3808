# LeyserPage.pm
#
# For the tests of white_paper_html(): the page of a node, what is in it, and what
# Chromium makes of it.

package LeyserPage;

use strict;
use warnings;
use utf8;

use Cwd qw(abs_path);
use Encode qw(decode);
use IPC::Run qw(run timeout);
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(page_of figures_of clauses_of unescape is_well_formed xpath seed_books browse take_picture picture_size);

# In an own profile, which goes away with the test.
my $folder = abs_path(PostgreSQL::Test::Utils::tempdir());

# As an auditor's file has it, in characters.
sub page_of
{
	my ($node, $arguments) = @_;
	my $page = $node->safe_psql('postgres', "SELECT leyser.white_paper_html($arguments)", extra_params => [ '-U', 'auditor' ]);

	utf8::decode($page) unless utf8::is_utf8($page);
	return "$page\n";
}

sub unescape
{
	my ($text) = @_;
	my %named = (amp => '&', lt => '<', gt => '>', quot => '"', '#39' => "'");

	$text =~ s/&(amp|lt|gt|quot|#39);/$named{$1}/g;
	return $text;
}

# What the page says in figures, by their names.
sub figures_of
{
	my ($page) = @_;
	my %figures;

	while ($page =~ m{<(dd|span) data-figure="([^"]+)">(.*?)</\1>}g)
	{
		my ($name, $value) = ($2, $3);
		$value =~ s/<[^>]*>|,//g;
		$figures{$name} = $value;
	}
	return \%figures;
}

# Of each clause, by its number: promise, status, and what stands under which word.
sub clauses_of
{
	my ($page) = @_;
	my %clauses;

	foreach my $article ($page =~ m{<article (.*?)</article>}gs)
	{
		my ($number, $promise) = $article =~ m{<span class="no">([\d.]+)</span> <span>(.*?)</span></h3>}s;
		my ($status) = $article =~ m{</svg> (.*?)</span>};
		my %said = map { s/<[^>]*>//gr } $article =~ m{<dt>(.*?)</dt><dd>(.*?)</dd>}gs;

		$clauses{$number} = { promise => unescape($promise), status => $status, map { $_ => unescape($said{$_}) } keys %said };
	}
	return \%clauses;
}

sub write_file
{
	my ($name, $text) = @_;
	my $path = "$folder/$name";

	open my $file, '>:encoding(UTF-8)', $path or die "could not write $path: $!";
	print $file $text;
	close $file or die "could not write $path: $!";
	return $path;
}

# ---- an XML parser ----

sub is_well_formed
{
	my ($page, $what) = @_;
	my ($out, $err) = ('', '');

	run [ 'xmllint', '--nonet', '--noout', write_file('page.xhtml', $page) ], '>', \$out, '2>', \$err;
	return is($err, '', "$what: an XML parser reads it");
}

sub xpath
{
	my ($page, $expression) = @_;
	my ($out, $err) = ('', '');

	run [ 'xmllint', '--nonet', '--xpath', $expression, write_file('page.xhtml', $page) ], '>', \$out, '2>', \$err
	  or die "xmllint: $err";
	chomp $out;
	return decode('UTF-8', $out);
}

# ---- Chromium ----

sub chromium
{
	my (@arguments) = @_;
	my ($out, $err) = ('', '');
	my $done = run [ 'env', "HOME=$folder", "XDG_RUNTIME_DIR=$folder", 'chromium', '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
		'--hide-scrollbars', "--user-data-dir=$folder/profile", @arguments ], '>', \$out, '2>', \$err,
	  timeout($PostgreSQL::Test::Utils::timeout_default);

	die "chromium failed: $err" unless $done;
	return decode('UTF-8', $out);
}

# Runs a script of the test's own beside the page, which stands in a frame of the given
# width: "page" is its document, "view" its window; what the script returns comes back.
sub browse
{
	my ($page, $width, $script, @arguments) = @_;
	my $quoted = $page =~ s/&/&amp;/gr =~ s/"/&quot;/gr;
	my $harness = write_file('harness.html', <<~"EOS");
		<!DOCTYPE html><html><head><meta charset="utf-8"></head><body><pre id="result"></pre>
		<iframe id="frame" style="border:0;width:${width}px;height:9000px" srcdoc="$quoted"></iframe>
		<script>
		document.getElementById('frame').addEventListener('load', function () {
			const view = this.contentWindow, page = this.contentDocument;
			let result;
			try { result = (function () { $script })(); } catch (e) { result = 'failed: ' + e; }
			document.getElementById('result').textContent = 'RES' + 'ULT' + result + 'END';
		});
		</script></body></html>
		EOS
	my $dom = chromium(@arguments, '--dump-dom', '--virtual-time-budget=5000', "file://$harness");

	my ($result) = $dom =~ /RESULT(.*?)END/s or die "nothing came back from chromium: " . substr($dom, 0, 600);
	return unescape($result);
}

sub take_picture
{
	my ($page, $name, $width, $height, @arguments) = @_;
	my $picture = "$PostgreSQL::Test::Utils::log_path/$name.png";

	chromium(@arguments, "--window-size=$width,$height", "--screenshot=$picture", 'file://' . write_file("$name.html", $page));
	return $picture;
}

# Of a PNG.
sub picture_size
{
	my ($picture) = @_;
	my $header;

	open my $file, '<:raw', $picture or die "could not read $picture: $!";
	read $file, $header, 24;
	close $file;
	return join 'x', unpack 'x16NN', $header;
}

# ---- what there is to tell ----

# Eight days with a generation each, but for one day that is missed and one on which it
# failed; a tenant that is erased, one that is held, one whose erasure waits.
sub seed_books
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{
		CREATE ROLE books LOGIN;
		SELECT leyser.grant_usage('books', 'backup');
		SELECT leyser.create_tenant(g::text, region => 'JP') FROM generate_series(3, 6) g;
		INSERT INTO shop.invoice (tenant_id, number, amount) SELECT g % 6 + 1, 'x', 1 FROM generate_series(1, 60) g;
		SELECT leyser.begin_backup('night ' || d, '/backups/' || d, 'JP') FROM generate_series(1, 8) d;
		UPDATE leyser.generation_record SET started_at = clock_timestamp() - (9 - generation_id) * interval '1 day', recorded_at = clock_timestamp() - interval '9 days';
		UPDATE leyser.generation_record SET state = 'complete', completed_at = started_at + interval '1 hour', stop_lsn = start_lsn WHERE generation_id <> 5;
		UPDATE leyser.generation_record SET state = 'failed', failed_at = started_at, error = 'the disk was full' WHERE generation_id = 5;
		DELETE FROM leyser.generation_record WHERE generation_id = 4;
		SELECT leyser.verify_backup(7, true, 'restored');
		SELECT leyser.terminate_contract('3', now()), leyser.terminate_contract('4', now()), leyser.terminate_contract('5', now());
		SELECT leyser.hold_purge('4', 'order of a court', current_date + 90);
		SELECT leyser.attest('2.1', 'The service is certified.', 'The body', repeat('ab', 32), now() + interval '1 year');
		SELECT leyser.attest('1.2', 'The terms say it.', 'The board', repeat('cd', 32), now() + interval '1 year');
	});
	$node->safe_psql('postgres', q{CALL leyser.purge('3')});
	$node->safe_psql('postgres', q{SELECT leyser.register_external_store('files')});
	$node->safe_psql('postgres', q{CALL leyser.purge('5', wait => false)});
	$node->poll_query_until('postgres', q{SELECT blockers::text ~ 'files' FROM leyser.purge_status WHERE tenant_id = '5'})
	  or die 'the purge does not wait';
	return;
}

1;
