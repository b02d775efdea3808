# The page in a browser: at three widths, on dark and light screens and on paper, for
# screen readers; nothing is fetched.

use strict;
use warnings;
use utf8;

use LeyserCheck;
use LeyserPage;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = check_node('browser');
my $long = 'x' x 60;

# Long names that have no place to break.
seed_books($node);
$node->safe_psql('postgres', qq{
	CREATE ROLE "role_$long" BYPASSRLS;
	SELECT leyser.create_tenant(repeat('tenant', 33));
	SELECT leyser.terminate_contract(repeat('tenant', 33), now());
	SELECT leyser.hold_purge(repeat('tenant', 33), repeat('basis', 40), current_date + 9);
	SELECT leyser.set_backup_policy(regions => ARRAY['JP', repeat('region', 10)]);
	SELECT leyser.begin_backup(repeat('label', 40), '/b', repeat('region', 10));
	SELECT leyser.attest('2.2', repeat('statement', 20), repeat('attested', 20), repeat('ab', 32), now() + interval '1 year');
});
my %pages = map { my $language = $_; map { ("$language $_" => page_of($node, "'$language', $_")) } qw(false true) } qw(en ja);

# What stands out on the right, but for the link that is seen by keyboard only.
my $overflow = q{
	const wide = [...page.body.querySelectorAll('*')].filter(e => !e.closest('defs') && e.getBoundingClientRect().right > view.innerWidth + 0.5);
	return view.innerWidth + ' ' + page.documentElement.scrollWidth + ' ' + wide.map(e => e.outerHTML.slice(0, 100)).join(' ');};
foreach my $name ('en false', 'en true', 'ja true')
{
	foreach my $width (360, 768, 1440)
	{
		is(browse($pages{$name}, $width, $overflow), "$width $width ", "$name: nothing is wider than $width pixels");
	}
}
is(browse($pages{'en true'} =~ s/overflow-wrap: [a-z-]+;//gr, 360, $overflow) =~ /^360 360 $/ ? 'fits' : 'too wide', 'too wide', 'a page that is too wide would be seen');

# Each text against what it stands on: 4.5 to 1, or 3 to 1 where it is large.
my $contrast = q{
	const light = c => { const [r, g, b] = c.match(/[\d.]+/g).map(Number).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const ground = e => { for (; e; e = e.parentElement) { const c = view.getComputedStyle(e).backgroundColor; if (!/, 0\)$/.test(c) && c !== 'transparent') return c; } return 'rgb(255, 255, 255)'; };
	const walker = page.createTreeWalker(page.body, 4), faint = new Set();
	let texts = 0;
	while (walker.nextNode()) {
		const e = walker.currentNode.parentElement;
		if (!walker.currentNode.data.trim() || e.closest('title, desc')) continue;
		const svg = e.closest('svg'), style = view.getComputedStyle(e);
		const [a, b] = [svg ? style.fill : style.color, svg ? view.getComputedStyle(page.querySelector('.days rect')).fill : ground(e)].map(light).sort((x, y) => y - x);
		texts++;
		if ((a + 0.05) / (b + 0.05) < 4.5) faint.add(e.className + ' ' + e.tagName);
	}
	return (texts > 200) + ' ' + view.getComputedStyle(page.body).backgroundColor + ' ' + [...faint].join(', ');};
foreach my $name ('en true', 'ja true')
{
	is(browse($pages{$name}, 768, $contrast, '--blink-settings=preferredColorScheme=1'), 'true rgb(255, 255, 255) ', "$name: contrast on a light screen");
	like(browse($pages{$name}, 768, $contrast, '--blink-settings=preferredColorScheme=0'), qr/^true rgb\((?:\d|[1-4]\d), (?:\d|[1-4]\d), (?:\d|[1-4]\d)\) $/, "$name: ... on a dark one");
}

# For whoever hears it.
my $structure = q{
	const all = s => [...page.querySelectorAll(s)], bad = [];
	const test = (what, ok) => { if (!ok) bad.push(what); };
	test('language', page.documentElement.lang === LANGUAGE);
	test('title', page.title && all('h1').length === 1 && all('h1')[0].textContent === page.title);
	for (const one of ['body > header', 'body > main', 'body > footer', 'nav[aria-label]', 'a.skip[href="#content"]']) test(one, all(one).length === 1);
	let level = 0;
	for (const h of all('h1, h2, h3')) { test('heading ' + h.textContent, h.tagName[1] <= level + 1); level = +h.tagName[1]; }
	const ids = all('[id]').map(e => e.id);
	test('ids', new Set(ids).size === ids.length);
	for (const a of all('a[href]')) test('link ' + a.outerHTML, page.getElementById(a.getAttribute('href').slice(1)));
	for (const u of all('use')) test('sign ' + u.outerHTML, page.getElementById(u.getAttribute('href').slice(1)));
	for (const e of all('[aria-labelledby]')) for (const id of e.getAttribute('aria-labelledby').split(' ')) test('label ' + id, page.getElementById(id).textContent.trim());
	for (const t of all('table')) test('table ' + t.id, t.caption.textContent && [...t.tHead.rows[0].cells].every(c => c.tagName === 'TH' && c.scope === 'col' && c.textContent)
		&& [...t.tBodies[0].rows].every(r => r.cells[0].tagName === 'TH' && r.cells[0].scope === 'row' && r.cells.length === t.tHead.rows[0].cells.length));
	for (const s of all('svg')) test('drawing ' + s.outerHTML.slice(0, 80), s.getAttribute('aria-hidden') === 'true' || s.getAttribute('role') === 'img' && s.querySelector('title').textContent && s.querySelector('desc').textContent);
	for (const s of all('.status .sign, .legend .sign')) test('a sign without a word', s.parentElement.textContent.trim());
	for (const d of all('.days > g')) test('a day without a word', /^\d{4}-\d\d-\d\d: ./.test(d.querySelector('title').textContent) && d.querySelector('use').getBoundingClientRect().width > 10);
	test('sections', all('section').length === 5 && all('article').length === 20 && all('table').length >= 5 && all('.days > g').length >= 8);
	test('fetched', view.performance.getEntriesByType('resource').length === 0 && all('script, link, img, iframe, object, embed, video, audio').length === 0);
	return bad.join('; ');};
foreach my $name (sort keys %pages)
{
	my ($language) = $name =~ /^(..)/;
	is(browse($pages{$name}, 768, $structure =~ s/LANGUAGE/'$language'/r), '', "$name: structure");
	unlike($pages{$name}, qr/\burl\(|\@import|\bsrc=|https?:(?!\/\/www\.w3\.org\/(?:2000\/svg|1999\/xhtml)")/, "$name: nothing to be fetched");
}

# On paper: dark screens print black on white, no links to click, nothing is cut off.
my $paper = q{
	for (const sheet of page.styleSheets) for (const rule of [...sheet.cssRules]) if (rule instanceof view.CSSMediaRule) {
		if (rule.media.mediaText === 'print') rule.media.mediaText = 'all'; else if (/screen/.test(rule.media.mediaText)) rule.media.mediaText = 'print'; }
	return view.getComputedStyle(page.body).backgroundColor + ' ' + view.getComputedStyle(page.querySelector('nav')).display + ' ' + (page.documentElement.scrollWidth <= view.innerWidth);};
is(browse($pages{'en true'}, 680, $paper, '--blink-settings=preferredColorScheme=0'), 'rgb(255, 255, 255) none true', 'on paper');

# Pictures for whoever wants to look; they lie beside the logs.
is(picture_size(take_picture($pages{'en false'}, "page-$_", $_, 4000)), "${_}x4000", "a picture: $_ pixels") foreach 360, 768, 1440;
is(picture_size(take_picture($pages{'en true'}, 'page-dark', 768, 4000, '--blink-settings=preferredColorScheme=0')), '768x4000', 'a picture: dark');

$node->stop;
done_testing();
