// @google-cloud/storage with default credentials: storage.js upload|download|resumable|list|sign.
'use strict';

const assert = require('node:assert');
const {GoogleAuth, Compute} = require('google-auth-library');
const {Storage} = require('@google-cloud/storage');

const SMALL = Buffer.from('a small object\n'.repeat(100));
const CHUNK = 256 * 1024; // the least that a resumable upload allows
const LARGE = Buffer.alloc(4 * CHUNK + 33, 'a large object ');

const steps = {
  upload: bucket => bucket.file('node/small').save(SMALL, {resumable: false}),
  async download(bucket) {
    const [content] = await bucket.file('node/small').download();
    assert.deepStrictEqual(content, SMALL);
  },
  async resumable(bucket) {
    await bucket.file('node/large').save(LARGE, {resumable: true, chunkSize: CHUNK});
    const [content] = await bucket.file('node/large').download();
    assert.deepStrictEqual(content, LARGE);
  },
  async sign(bucket) {
    const expires = Date.now() + 600_000;
    const [url] = await bucket.file('node/small').getSignedUrl({version: 'v4', action: 'read', expires});
    console.log(url);
  },
  async list(bucket, storage) {
    const [files] = await bucket.getFiles({prefix: 'node/'});
    assert.deepStrictEqual(files.map(file => file.name), ['node/large', 'node/small']);
    const [buckets] = await storage.getBuckets();
    assert.ok(buckets.some(found => found.name === 'cells'));
  },
};

async function main(step) {
  const {credential, projectId} = await new GoogleAuth().getApplicationDefault();
  assert.ok(credential instanceof Compute, credential.constructor.name);
  assert.strictEqual(projectId, 'cells-project');
  const storage = new Storage();
  await steps[step](storage.bucket('cells'), storage);
}

main(process.argv[2]).catch(error => {
  console.error(error);
  process.exit(1);
});
