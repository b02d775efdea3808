// Tokens that are not what they say, made from the README's own.

const { createPrivateKey, generateKeyPairSync, sign } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { tokenFor } = require(`${process.cwd()}/token`);

const decoded = (part) => JSON.parse(Buffer.from(part, 'base64url'));
const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

// Another tenant's name under the first one's signature.
function altered(tenant, other) {
  const [header, claims, signature] = tokenFor(tenant).split('.');

  return [header, encoded({ ...decoded(claims), tenant: other }), signature].join('.');
}

// The same claims and key id, signed anew.  Arguments: tenant, what claims to change, the key.
function signedWith(tenant, changes, key) {
  const [header, claims] = tokenFor(tenant).split('.');
  const signed = `${header}.${encoded({ ...decoded(claims), ...changes })}`;

  return `${signed}.${sign(null, Buffer.from(signed), key).toString('base64url')}`;
}

const foreign = (tenant) => signedWith(tenant, {}, generateKeyPairSync('ed25519').privateKey);

// Signed by the right key, an hour ago.
function expired(tenant) {
  const then = Math.floor(Date.now() / 1000) - 3600;

  const key = createPrivateKey(readFileSync('shop.key'));

  return signedWith(tenant, { iat: then, exp: then + 60 }, key);
}

module.exports = { altered, expired, foreign };
