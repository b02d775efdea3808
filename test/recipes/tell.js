// How the programs here tell what they saw (test/perl/LeyserRecipes.pm). They run in a
// folder with the README's files.

const { isDeepStrictEqual } = require('node:util');

let told = 0;

function is(got, expected, name) {
  told += 1;
  if (isDeepStrictEqual(got, expected)) {
    console.log(`ok ${name}`);
  } else {
    console.log(`not ok ${name}: ${JSON.stringify(got)} is not ${JSON.stringify(expected)}`);
  }
}

// The SQLSTATE that a promise fails with.
const sqlstate = (promise) => promise.then(() => 'no error', (error) => error.code || error.message);

// Runs a program of tests to its end.
async function tests(main) {
  await main();
  console.log(`told ${told}`);
}

module.exports = { is, sqlstate, tests };
