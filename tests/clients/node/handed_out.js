// jose's verdict on tokens of the token API: signature, header and claims, to the last one.
'use strict';

const assert = require('node:assert');
const http = require('node:http');
const {text} = require('node:stream/consumers');
const {importSPKI, jwtVerify} = require('jose');

const told = JSON.parse(process.env.TOLD);

// Node's fetch marks its requests as a browser does (Sec-Fetch-Mode), and the door refuses those.
function ask(path) {
  return new Promise((resolve, reject) => {
    const asked = http.get(told.api + path, {headers: {'X-Bearerd-Token-Request': 'true'}}, async answer => {
      const body = await text(answer);
      resolve({status: answer.statusCode, error: answer.headers['x-bearerd-error'], body});
    });
    asked.on('error', reject);
  });
}

async function json(path) {
  const {status, body} = await ask(path);
  assert.strictEqual(status, 200);
  return JSON.parse(body);
}

async function verify(token, pem, header, claims, lifetime) {
  const key = await importSPKI(pem, header.alg);
  const {protectedHeader, payload} = await jwtVerify(token, key, {audience: claims.aud, requiredClaims: ['iat', 'exp']});
  assert.deepStrictEqual({...protectedHeader}, header);
  const {iat, exp, ...rest} = payload;
  assert.deepStrictEqual(rest, claims);
  assert.strictEqual(exp - iat, lifetime);
  const [head, , signature] = token.split('.');
  const other = Buffer.from(JSON.stringify({...payload, aud: 'x'})).toString('base64url');
  await assert.rejects(jwtVerify(`${head}.${other}.${signature}`, key), {code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED'});
  return {iat, exp};
}

async function main() {
  const driver = await json('/token/driver/vehicle-1');
  const {email, keyId} = told;
  const claims = {iss: email, sub: email, aud: 'https://fleetengine.googleapis.com/', authorization: {vehicleid: 'vehicle-1'}};
  const {iat, exp} = await verify(driver.jwt, told.rsa, {alg: 'RS256', typ: 'JWT', kid: keyId}, claims, 3600);
  assert.deepStrictEqual(driver, {jwt: driver.jwt, creationTimestamp: iat * 1000, expirationTimestamp: exp * 1000});
  const device = await json('/v1/tokens/device');
  await verify(device.access_token, told.ec, {alg: 'ES256', typ: 'JWT'}, {aud: 'my-project'}, 600);
  const fetched = await fetch(`${told.api}/v1/tokens/device`, {headers: {'X-Bearerd-Token-Request': 'true'}});
  assert.deepStrictEqual([fetched.status, fetched.headers.get('x-bearerd-error')], [403, 'token_api_browser']);
  console.log('verified');
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
