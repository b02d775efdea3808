// Two tenants' transactions in turn on few connections, with careless and forged ones
// between them.  Arguments: pg or knex; the number of transactions; the most connections
// that the server may see.

const { openDoor } = require('./doors');
const { altered, foreign } = require('./forged');
const { is, sqlstate, tests } = require('./tell');

const TENANTS = ['acme', 'globex'];
const CLIENTS = 12;
const seen = { transactions: 0, rows: 0, strangers: 0, wrong: [], served: new Map() };
const written = { acme: 0, globex: 0 };
const pause = () => new Promise((done) => { setTimeout(done, Math.random() * 4); });

// Rows that are another tenant's by their column or by what their writer put into them.
// Arguments: the tenant, the rows that a query gave it.
function judge(tenant, rows) {
  const other = TENANTS.find((name) => name !== tenant);

  seen.rows += rows.length;
  seen.strangers += rows.filter((row) =>
    row.tenant_id !== tenant || row.customer.startsWith(`of ${other} `)).length;
}

async function transaction(door, tenant, number) {
  const rollBack = number % 5 === 0;

  await door.run(tenant, async (query) => {
    const [{ pid }] = await query('SELECT pg_backend_pid() AS pid');
    seen.served.set(pid, (seen.served.get(pid) || new Set()).add(tenant));
    await query('INSERT INTO invoice (customer, amount) VALUES ($1, 1)',
      [`of ${tenant} ${number}`]);
    await pause();
    judge(tenant, await query('SELECT tenant_id, customer FROM invoice'));
    if (rollBack) throw new Error('taken back');
  }).catch((error) => { if (error.message !== 'taken back') throw error; });
  seen.transactions += 1;
  if (!rollBack) written[tenant] += 1;
}

// What others do meanwhile.
async function nuisance(door, number) {
  const attempts = [
    ['LY001', 'SELECT * FROM invoice'],
    ['LY002', "SELECT set_config('leyser.token', $1, true)", [altered('acme', 'globex')]],
    ['LY002', "SELECT set_config('leyser.token', $1, true)", [foreign('globex')]],
  ];
  const [expected, text, values] = attempts[number % attempts.length];
  const state = await sqlstate(door.bare(text, values));

  if (state !== expected) seen.wrong.push(state);
}

async function client(door, numbers) {
  for (let number = numbers.next(); !number.done; number = numbers.next()) {
    await transaction(door, TENANTS[Math.floor(Math.random() * 2)], number.value);
    if (number.value % 3 === 0) await nuisance(door, Math.floor(number.value / 3));
  }
}

tests(async () => {
  const door = openDoor(process.argv[2]);
  const [count, most] = process.argv.slice(3).map(Number);
  const kept = "SELECT count(*)::int AS kept FROM invoice WHERE customer LIKE 'of %'";
  const before = {};

  for (const tenant of TENANTS) {
    [{ kept: before[tenant] }] = await door.run(tenant, (query) => query(kept));
  }
  const numbers = Array(count).keys();
  await Promise.all(Array.from({ length: CLIENTS }, () => client(door, numbers)));

  is(seen.transactions, count, 'every transaction was done');
  is(seen.rows > count, true, 'rows were judged');
  is(seen.strangers, 0, 'no row of another tenant');
  is(seen.wrong, [], 'no query without a token or with a forged one was answered');
  is(seen.served.size <= most, true, 'connections were few');
  is([...seen.served.values()].filter((tenants) => tenants.size < 2).length, 0,
    'each connection served both tenants');
  for (const tenant of TENANTS) {
    is(await door.run(tenant, (query) => query(kept)),
      [{ kept: before[tenant] + written[tenant] }], `${tenant} has what it committed`);
  }
  await door.close();
});
