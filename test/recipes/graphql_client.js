// Two tenants ask PostGraphile, started as in the README, at once.  Argument: its address.

const { altered, expired, foreign } = require('./forged');
const { is, tests } = require('./tell');
const { tokenFor } = require(`${process.cwd()}/token`);

const ALL = '{ allInvoices { nodes { tenantId customer } } }';
const INSERT = `mutation ($tenant: String, $customer: String!) {
  createInvoice(input: { invoice: { tenantId: $tenant, customer: $customer, amount: "1" } }) {
    invoice { tenantId } } }`;

async function ask(token, query, variables) {
  const response = await fetch(`${process.argv[2]}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token && { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify({ query, variables }),
  });

  return { status: response.status, ...await response.json() };
}

const errcode = ({ errors }) => errors?.[0].extensions.code ?? 'no error';

// The server has looked at the catalogue, without a token, when it answers.
async function ready() {
  for (let tries = 0; tries < 300; tries += 1) {
    const answer = await ask(null, '{ __typename }').catch(() => null);
    if (answer?.data) return;
    await new Promise((done) => { setTimeout(done, 100); });
  }
  throw new Error('PostGraphile does not answer');
}

tests(async () => {
  await ready();
  is(errcode(await ask(null, ALL)), 'LY001', 'a query without a token');
  is(errcode(await ask(altered('acme', 'globex'), ALL)), 'LY002',
    'a token with another tenant in it');
  is(errcode(await ask(foreign('acme'), ALL)), 'LY002', 'a token of another key');
  is(errcode(await ask(expired('acme'), ALL)), 'LY003', 'a token of an hour ago');
  is((await ask(expired('acme'), ALL)).status, 401,
    'whose answer says that a new one is needed');
  is(errcode(await ask('no token', ALL)), 'LY001', 'what is no token');

  const made = await ask(tokenFor('acme'), INSERT, { customer: 'by GraphQL' });
  is(made.data?.createInvoice?.invoice, { tenantId: 'acme' }, 'a row is the tenant\'s own');
  is(errcode(await ask(tokenFor('acme'), INSERT, { tenant: 'globex', customer: 'x' })), '42501',
    'a row for another tenant');

  const tenants = Array.from({ length: 200 }, (_, number) => (number % 2 ? 'acme' : 'globex'));
  const answers = await Promise.all(tenants.map((tenant) => ask(tokenFor(tenant), ALL)));
  const nodes = answers.map((answer) => answer.data?.allInvoices?.nodes ?? []);
  is(nodes.filter((rows) => rows.length === 0).length, 0, 'all 200 are answered');
  is(nodes.flatMap((rows, number) => rows.filter((row) => row.tenantId !== tenants[number])), [],
    'none with a row of another tenant');

  const names = (await ask(null, '{ __schema { queryType { fields { name } } } }'))
    .data.__schema.queryType.fields.map((field) => field.name);
  is(names.includes('allInvoices'), true, 'tables are offered');
  is(names.filter((name) => /token|issuer|keyring/i.test(name)), [], 'leyser itself is not');
});
