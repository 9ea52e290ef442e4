// @google-cloud/pubsub over grpc-js with default credentials: pubsub.js publish|stream.
'use strict';

const assert = require('node:assert');
const {PubSub} = require('@google-cloud/pubsub');

const LIMIT = 20_000; // milliseconds; the answer comes in some ten

const steps = {
  async publish(pubsub) {
    const [topic] = await pubsub.createTopic('node');
    await topic.createSubscription('node');
    assert.ok(await topic.publishMessage({data: Buffer.from('hello from Node')}));
  },
  async stream(pubsub) {
    const subscription = pubsub.subscription('node');
    const data = await new Promise((resolve, reject) => {
      subscription.on('error', reject);
      subscription.on('message', message => {
        message.ack();
        resolve(message.data.toString());
      });
      setTimeout(() => reject(new Error('no message came')), LIMIT).unref();
    });
    assert.strictEqual(data, 'hello from Node');
    await subscription.close();
  },
};

async function main(step) {
  const pubsub = new PubSub();
  await steps[step](pubsub);
  await pubsub.close();
}

main(process.argv[2]).catch(error => {
  console.error(error);
  process.exit(1);
});
