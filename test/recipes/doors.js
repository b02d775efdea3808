// The README's two ways to a tenant's rows, behind one face: run() gives its work a
// function that sends a query with parameters; bare() sends one outside of all that.

const doors = {
  pg() {
    const { inTenant, pool } = require(`${process.cwd()}/tenant`);
    const sender = (client) => async (text, values) => (await client.query(text, values)).rows;

    return {
      run: (tenant, work) => inTenant(tenant, (client) => work(sender(client))),
      // as pool.query(), which throws a connection away after an error
      bare: async (text, values) => {
        const client = await pool.connect();
        try {
          return await sender(client)(text, values);
        } finally {
          client.release();
        }
      },
      close: () => pool.end(),
    };
  },
  knex() {
    const { inTenant, knex } = require(`${process.cwd()}/db`);
    const sender = (connection) => async (text, values = []) =>
      (await connection.raw(text.replace(/\$\d/g, '?'), values)).rows;

    return {
      run: (tenant, work) => inTenant(tenant, (transaction) => work(sender(transaction))),
      bare: sender(knex),
      close: () => knex.destroy(),
    };
  },
};

module.exports = { openDoor: (name) => doors[name]() };
