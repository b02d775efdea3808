// What must be refused, and what it leaves behind.  Argument: pg or knex.

const { openDoor } = require('./doors');
const { altered, expired, foreign } = require('./forged');
const { is, sqlstate, tests } = require('./tell');
const { tokenFor } = require(`${process.cwd()}/token`);

const SET = "SELECT set_config('leyser.token', $1, $2)";
const INSERT = "INSERT INTO invoice (tenant_id, customer, amount) VALUES ($1, 'x', 1)";
const COUNT = "SELECT count(*)::int AS foreign FROM invoice WHERE tenant_id <> 'acme'";

tests(async () => {
  const door = openDoor(process.argv[2]);

  is(await sqlstate(door.bare('SELECT * FROM invoice')), 'LY001', 'a query without a token');
  is(await sqlstate(door.bare(INSERT, ['acme'])), 'LY001', 'a row without a token');
  is(await sqlstate(door.bare(SET, [altered('acme', 'globex'), true])), 'LY002',
    'a token with another tenant in it');
  is(await sqlstate(door.bare(SET, [foreign('acme'), true])), 'LY002', 'a token of another key');
  is(await sqlstate(door.bare(SET, [expired('acme'), true])), 'LY003', 'a token of an hour ago');
  is(await sqlstate(door.bare(SET, [tokenFor('nobody'), true])), 'LY004',
    'a tenant that does not exist');

  is(await sqlstate(door.run('acme', (query) => query(SET, [tokenFor('globex'), true]))),
    'LY009', "another tenant's token in a transaction");
  is(await sqlstate(door.run('acme', (query) => query(SET, [expired('acme'), true]))),
    'LY003', 'an expired token in a transaction');
  is(await door.run('acme', (query) => query(COUNT)), [{ foreign: 0 }], 'no row of another tenant');
  is(await sqlstate(door.run('acme', (query) => query(INSERT, ['globex']))), '42501',
    'a row for another tenant');

  is(await sqlstate(door.bare(SET, [tokenFor('acme'), false])), 'no error',
    'a token set for the session');
  const states = new Set();
  for (let i = 0; i < 20; i += 1) states.add(await sqlstate(door.bare('SELECT * FROM invoice')));
  is([...states], ['LY001'], 'is gone with its transaction');
  is(await door.run('globex', (query) => query('SELECT leyser.tenant_id()')),
    [{ tenant_id: 'globex' }], "and in nobody's way");
  await door.close();
});
