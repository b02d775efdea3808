"""Tokens made by another implementation, and every way to spoil them.

Run by test/fuzz/run.  A token must be accepted exactly when it is whole; what
is refused must be refused by LY002 or LY003 and never by a raised error or a
crash.  The keyring is spoilt byte by byte in the same way.
"""
import base64
import hashlib
import hmac
import json
import os
import random
import sys
import time

import jwt
import psycopg2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, ed448, rsa

NOW = 1800000000
SECRET = bytes(range(32))
failures = 0
checks = 0


def check(ok, what):
    global failures, checks
    checks += 1
    if not ok:
        failures += 1
        print("not ok:", what)
        if failures > 20:
            sys.exit(1)


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public_pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM,
        serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption()).decode()


connection = psycopg2.connect(sys.argv[1])
connection.autocommit = True
sql = connection.cursor()


def call(query, *values):
    sql.execute(query, values)
    return sql.fetchone()[0]


def verify(token, now=NOW):
    return call("SELECT fuzz_verify(%s, to_timestamp(%s))", token, now)


def add_key(key_id, material, issuer=None, audience="db", tenant=None, claim="tenant"):
    return call("SELECT fuzz_key(%s, %s, %s, %s, %s, %s)",
                key_id, material, issuer, audience, tenant, claim)


def hs256(header, payload, secret=SECRET):
    """Signs whatever it is given: bytes go in as they are."""
    parts = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in (header, payload)]
    signed = b64(parts[0]) + "." + b64(parts[1])
    return signed + "." + b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())


def define_functions():
    module = os.environ["FUZZ_MODULE"]
    for name, arguments, result in (
            ("fuzz_key", "text, text, text, text, text, text", "text"),
            ("fuzz_verify", "text, timestamptz", "text"),
            ("fuzz_sign", "text, text, text, timestamptz, timestamptz", "text"),
            ("fuzz_cost", "text, int", "float8"), ("fuzz_forget", "", "void"),
            ("leyser_custodian_create", "", "uuid"),
            ("leyser_custodian_read_id", "", "uuid"),
            ("leyser_custodian_write_key", "uuid", "text"),
            ("leyser_custodian_list_keys", "", "text[]"),
            ("leyser_custodian_diagnose",
             "text, uuid, OUT state text, OUT detail text, OUT remedy text, OUT found uuid", None)):
        returns = "RETURNS " + result if result else ""
        sql.execute(f"CREATE FUNCTION {name}({arguments}) {returns} LANGUAGE c AS '{module}'")


HEADER = {"alg": "HS256", "kid": "own", "typ": "JWT"}
CLAIMS = {"tenant": "acme", "sub": "mia", "account_id": 7, "iat": NOW - 10, "exp": NOW + 300, "aud": "db"}


def test_claims():
    """One claim or header member at a time."""
    def payload(result, **changes):
        claims = {k: v for k, v in {**CLAIMS, **changes}.items() if v != "absent"}
        got = verify(hs256(HEADER, claims))
        check(got.startswith(result), f"payload {changes}: {got}")

    def header(result, **changes):
        members = {k: v for k, v in {**HEADER, **changes}.items() if v != "absent"}
        got = verify(hs256(members, CLAIMS))
        check(got.startswith(result), f"header {changes}: {got}")

    sid = "0b0e7a62-3c7c-4a5e-9d6e-6a0d7b9c1f2a"
    payload("ok|acme|mia|")
    payload("ok|acme||", sub="absent")
    payload("ok|acme|mia|" + sid, sid=sid)
    for bad in (sid.upper(), "x", 5, None, sid + "0", sid[:-1]):
        payload("LY002", sid=bad)
    payload("ok", aud=["x", "db"])
    for bad in ("absent", "x", [], ["x"], ["db", 1], ["db", ["y"]], {"db": 1}, None, 7):
        payload("LY002", aud=bad)
    for bad in ("absent", "", None, 1, True, [], ["acme"], {}, "x" * 201, "a\nb", "a\x7f",
                "a\u0085b", "a\u0000b"):
        payload("LY002", tenant=bad)
    for good in ("x" * 200, "é" * 200, "😀" * 200, " ", "a'\"\\b"):
        payload("ok|" + good + "|", tenant=good)
    for bad in ("", None, 1, "x" * 201, "\t"):
        payload("LY002", sub=bad)
    for bad in ("absent", "7", -7, 0, 7.5, None, [7], True, 10 ** 18):
        payload("LY002", account_id=bad)
    payload("ok", account_id=10 ** 18 - 1)
    payload("LY002", iss=5)
    payload("ok", iss="anybody")
    for bad in ("absent", None, "1", "abc", True, [], -1, 1e30, 99999999999999999999,
                253402300800, NOW + 86431):
        payload("LY002", exp=bad)
    payload("ok", exp=NOW + 300.75)
    payload("ok", exp=NOW + 1)
    payload("LY003", exp=NOW)
    payload("LY003", exp=NOW - 29)
    payload("LY003", exp=0)
    payload("ok", exp=NOW + 86390 - 10)
    payload("LY002", exp=NOW + 86391)
    payload("ok", exp=NOW + 86430, iat="absent")
    payload("ok", nbf=NOW + 30)
    payload("LY002", nbf=NOW + 31)
    payload("LY002", nbf="now")
    payload("LY002", iat=NOW + 31)
    payload("LY002", iat=None)

    header("ok")
    for good in ("absent", "jwt", "at+jwt", "application/at+jwt"):
        header("ok", typ=good)
    for bad in ("", "JWE", "dpop+jwt", "application/", 1, None):
        header("LY002", typ=bad)
    for bad in ("absent", "none", "None", "NONE", "", "hs256", "HS512", "RS256", "EdDSA", 5, None):
        header("LY002", alg=bad)
    for bad in ("absent", "", "../own", "own/../own", "x" * 64, "a b", "own\u0000", 5, None, "öwn",
                "nobody", "own\n"):
        header("LY002", kid=bad)
    for name in ("crit", "b64"):
        for value in ([], ["exp"], True, None):
            header("LY002", **{name: value})
    header("ok", jwk={"kty": "oct"}, x5c=["x"])


def test_json():
    """JSON that a lenient parser would read."""
    good = json.dumps(CLAIMS)[1:-1]
    for bad in ("", "{}", "[]", "null", "5", '"x"', "{" + good, "{" + good + "}}", "[{" + good + "}]",
                "{" + good + ',"tenant":"acme"}', "{" + good + ',"\\u0074enant":"other"}',
                "{" + good + ',"x":1,"x":1}', "{" + good + ",}", "{'tenant':'acme'}",
                "{" + good + ',"x":' + "[" * 16 + "]" * 16 + "}",
                "{" + good + ',"x":' + "[" * 2500, "{" + good + ',"x":' + '{"y":' * 1000,
                "{" + good + ',"x":"\\ud800"}', "{" + good + ',"x":"\\u0000"}',
                "{" + good + ',"x":NaN}', "{" + good + ',"x":01}', "{" + good + '}\x00',
                "{" + good + ',"x":"\n"}', "/**/{" + good + "}",
                "{" + good + "".join(f',"m{i}":0' for i in range(60)) + "}"):
        got = verify(hs256(HEADER, bad.encode()))
        check(got.startswith("LY002"), f"json {bad[:60]!r}: {got}")
    for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
        body = ("{" + good + ',"x":"').encode() + bad + b'"}'
        check(verify(hs256(HEADER, body)).startswith("LY002"), f"utf8 {bad!r}")
    nested = "{" + good + ',"x":' + "[" * 15 + "]" * 15 + "}"
    check(verify(hs256(HEADER, nested.encode())).startswith("ok"), "nesting of 16")
    spaced = " \t\r\n{ " + good + " , \"x\" : [ { \"tenant\" : 1 } , \"[[[[\" ] } \n"
    check(verify(hs256(HEADER, spaced.encode())).startswith("ok"), "white space")
    check(verify(hs256(b'{"alg":"HS256","kid":"own","kid":"own"}', CLAIMS)).startswith("LY002"),
          "header member twice")
    for size in (8192, 8193):
        pad = size - len(hs256(HEADER, {**CLAIMS, "x": ""}))
        token = hs256(HEADER, {**CLAIMS, "x": "y" * (pad * 3 // 4)})
        while len(token) < size:
            pad += 1
            token = hs256(HEADER, {**CLAIMS, "x": "y" * (pad * 3 // 4)})
        if len(token) == size or size == 8193:
            check(verify(token).startswith("ok" if len(token) <= 8192 else "LY002"),
                  f"{len(token)} bytes")
    check(verify("a" * 1000000).startswith("LY002"), "a million bytes")


def test_issuers(private):
    """The other implementation's signatures, and keys bound to parties."""
    claims = {**CLAIMS, "iss": "https://issuer"}
    for name, (algorithm, key) in private.items():
        def token(changes={}, kid=name):
            return jwt.encode({**claims, **changes}, key, algorithm, headers={"kid": kid})

        for _ in range(2):  # from the signature, and from memory
            check(verify(token()) == "ok|acme|mia|", f"{name}: {verify(token())}")
        whole = token()
        check(verify(whole).startswith("ok"), f"{name} whole")
        check(verify(whole, NOW + 1000).startswith("LY003"), f"{name} expires in memory")
        for changes in ({"iss": "https://other"}, {"aud": "other"}, {"tenant": "other"}):
            wanted = "ok" if "tenant" in changes and not name.endswith("acme") else "LY002"
            check(verify(token(changes)).startswith(wanted), f"{name} {changes}")
        check(verify(token({"sid": "not ours"})).startswith("ok"), f"{name} sid")
        for other in private:
            if private[other][1] is not key:
                check(verify(token(kid=other)).startswith("LY002"), f"{name} as {other}")
        for other in ("own", "nobody"):
            check(verify(token(kid=other)).startswith("LY002"), f"{name} as {other}")
        # the public key as an HMAC secret: the classic confusion
        secret = public_pem(key).encode()
        check(verify(hs256({"alg": "HS256", "kid": name}, claims, secret)).startswith("LY002"),
              f"{name} confused")
    # a changed key: what was remembered does not count for it
    algorithm, key = private["ed"]
    token = jwt.encode(claims, key, algorithm, headers={"kid": "ed"})
    check(verify(token).startswith("ok"), "before the change")
    add_key("ed", public_pem(ed25519.Ed25519PrivateKey.generate()), "https://issuer")
    check(verify(token).startswith("LY002"), "after the change")
    add_key("ed", public_pem(key), "https://issuer")
    check(verify(token).startswith("ok"), "changed back")


def test_public_keys():
    for what, pem in (
            ("private", private_pem(ed25519.Ed25519PrivateKey.generate())),
            ("Ed448", public_pem(ed448.Ed448PrivateKey.generate())),
            ("P-384", public_pem(ec.generate_private_key(ec.SECP384R1()))),
            ("secp256k1", public_pem(ec.generate_private_key(ec.SECP256K1()))),
            ("RSA 1024", public_pem(rsa.generate_private_key(65537, 1024))),
            ("empty", ""), ("text", "hello"),
            ("certificate", "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----"),
            ("broken", "-----BEGIN PUBLIC KEY-----\nMII=\n-----END PUBLIC KEY-----")):
        got = add_key("bad", pem)
        check(not got.startswith("algorithm"), f"public key {what}: {got}")
    pem = public_pem(ed25519.Ed25519PrivateKey.generate())
    check(not add_key("bad", pem + pem).startswith("algorithm"), "two public keys")
    check(not add_key("bad", "x\n" + pem).startswith("algorithm"), "text before")
    check(add_key("good", "\n" + pem + "\n\n").startswith("algorithm 1"), "white space around")
    for i in range(0, len(pem)):
        add_key("spoilt", pem[:i])
        add_key("spoilt", pem[:i] + "A" + pem[i + 1:])


def test_sign():
    session = "ab" * 4 + "-abab-abab-abab-" + "ab" * 6
    for tenant in ("acme", "a\"b\\c", "日本語", "\u00a0", "</script>"):
        token = call("SELECT fuzz_sign('own', %s, 'mia', to_timestamp(%s), to_timestamp(%s))",
                     tenant, NOW + 0.9, NOW + 60.2)
        check(verify(token) == f"ok|{tenant}|mia|{session}", f"signed {tenant}")
        read = jwt.decode(token, SECRET, ["HS256"], audience="db",
                          options={"verify_exp": False, "verify_iat": False})
        check(read == {"tenant": tenant, "sub": "mia", "account_id": 7, "sid": session, "iat": NOW + 0.9,
                       "exp": NOW + 60.2, "aud": "db"}, f"read {read}")


def test_mutations(tokens, seconds):
    """Every truncation, every bit, then random splices."""
    for token in tokens:
        check(verify(token).startswith("ok"), "whole")
        for i in range(len(token)):
            check(verify(token[:i]).startswith("LY002"), f"cut at {i}")
            check(verify(token[i + 1:]).startswith("LY002"), f"begun at {i}")
            for bit in range(7):
                c = chr(ord(token[i]) ^ 1 << bit)
                if c != "\0":
                    got = verify(token[:i] + c + token[i + 1:])
                    check(got.startswith("LY002"), f"bit {bit} of {i}: {got}")
        for more in (".", "=", "A", " ", "\n", "é"):
            check(verify(token + more).startswith("LY002"), f"followed by {more!r}")
            check(verify(more + token).startswith("LY002"), f"preceded by {more!r}")
    seed = int(os.environ.get("FUZZ_SEED", time.time()))
    print("seed", seed)
    dice = random.Random(seed)
    end = time.time() + seconds
    alphabet = "{}[]\",:\\ \n0123456789.eE-+tfn/u" + "aud"
    while time.time() < end:
        # a right signature over wrong JSON reaches the parser
        body = list(json.dumps({**CLAIMS, "x": [1, {"y": "\u00e9"}]}))
        for _ in range(dice.randint(1, 6)):
            at = dice.randrange(len(body))
            body[at:at + dice.randint(0, 2)] = dice.choice(alphabet)
        header = HEADER if dice.random() < 0.7 else "".join(body).encode()
        got = verify(hs256(header, "".join(body).encode()))
        check(got[:5] in ("LY002", "LY003") or got.startswith("ok|"), f"{body}: {got}")
        a, b = dice.choice(tokens), dice.choice(tokens)
        cut = dice.randrange(len(a))
        spliced = a[:cut] + b[dice.randrange(len(b)):]
        if spliced not in tokens:
            check(verify(spliced).startswith("LY002"), "spliced")


def test_keyring():
    directory = os.environ["FUZZ_KEYRING"]

    def state(key_id=None, keyring=None):
        return call("SELECT (leyser_custodian_diagnose(%s, %s)).state", key_id, keyring)

    check(state() == "lost", "empty directory")
    keyring = call("SELECT leyser_custodian_create()")
    key_id = call("SELECT leyser_custodian_write_key(%s)", keyring)
    check(call("SELECT leyser_custodian_list_keys()") == [key_id], "listed")
    check(state(key_id, keyring) == "ok", "whole keyring")
    check(state(None, "00000000-0000-4000-8000-000000000000") == "foreign", "foreign")
    for bad in ("", ".", "..", "../keyring", "keyring", "x" * 300, "a/b", key_id + "x"):
        check(state(bad, keyring) == "incomplete", f"key id {bad}")
    for name, key in (("keyring", None), (key_id + ".key", key_id)):
        path = os.path.join(directory, name)
        whole = open(path, "rb").read()
        spoilt = [whole[:i] for i in range(len(whole))]
        spoilt += [whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1:]
                   for i in range(len(whole))]
        spoilt += [whole + more for more in (b"\n", b"\0", b"x" * 5000)] + [b"\n" + whole]
        for content in spoilt:
            with open(path, "wb") as f:
                f.write(content)
            check(state(key, keyring) == "damaged", f"{name} spoilt: {content[-20:]!r}")
        with open(path, "wb") as f:
            f.write(whole)
        for mode in (0o640, 0o604, 0o660, 0o601):
            os.chmod(path, mode)
            check(state(key, keyring) == "unsafe", f"{name} mode {mode:o}")
        os.chmod(path, 0o400)
        check(state(key, keyring) == "ok", f"{name} read-only")
        os.rename(path, path + ".away")
        check(state(key, keyring) == ("incomplete" if key else "lost"), f"{name} away")
        os.mkfifo(path, 0o600)
        check(state(key, keyring) == "unsafe", f"{name} is a fifo")
        os.unlink(path)
        os.symlink(path + ".away", path)
        check(state(key, keyring) == "ok", f"{name} is a link")
        os.unlink(path)
        os.rename(path + ".away", path)
    os.chmod(directory, 0o770)
    check(state(key_id, keyring) == "unsafe", "directory open to the group")
    os.chmod(directory, 0o700)
    os.rename(directory, directory + ".away")
    check(state(key_id, keyring) == "missing", "directory away")
    os.symlink(directory + ".away", directory)
    check(state(key_id, keyring) == "ok", "directory is a link")
    os.unlink(directory)
    data = call("SHOW data_directory")
    for inside in (data + "/base/keyring", data):
        if inside != data:
            os.rename(directory + ".away", inside)
        os.symlink(inside, directory)
        check(state(key_id, keyring) == "unsafe", "inside the data directory")
        os.unlink(directory)
    os.rename(data + "/base/keyring", directory)
    check(state(key_id, keyring) == "ok", "back again")
    check(sorted(os.listdir(directory)) == sorted(["keyring", key_id + ".key"]), "no leftovers")


def show_cost(private):
    claims = {**CLAIMS, "iss": "https://issuer", "iat": int(time.time()),
              "exp": int(time.time()) + 300}
    tokens = {"HS256": hs256(HEADER, claims)}
    for name, (algorithm, key) in private.items():
        tokens[algorithm] = jwt.encode(claims, key, algorithm, headers={"kid": name})
    for algorithm, token in tokens.items():
        sql.execute("SELECT fuzz_forget()")
        first = call("SELECT fuzz_cost(%s, 1)", token)
        print(f"{algorithm}: {call('SELECT fuzz_cost(%s, 100000)', token):.0f} ns a token, "
              f"the first {first / 1000:.0f} us")


def main():
    define_functions()
    rsa_key = rsa.generate_private_key(65537, 2048)
    private = {"ed": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
               "es": ("ES256", ec.generate_private_key(ec.SECP256R1())),
               "rs": ("RS256", rsa_key), "ed-acme": ("EdDSA", ed25519.Ed25519PrivateKey.generate())}
    add_key("own", SECRET.hex())
    for name, (_, key) in private.items():
        add_key(name, public_pem(key), "https://issuer", "db",
                "acme" if name.endswith("acme") else None)
    test_claims()
    test_json()
    test_sign()
    test_public_keys()
    test_issuers(private)
    test_keyring()
    claims = {**CLAIMS, "iss": "https://issuer"}
    test_mutations([hs256(HEADER, CLAIMS)] +
                   [jwt.encode(claims, key, algorithm, headers={"kid": name})
                    for name, (algorithm, key) in private.items()],
                   float(os.environ["FUZZ_SECONDS"]))
    show_cost(private)
    print(f"{checks} checks, {failures} failed")
    sys.exit(1 if failures else 0)


main()
