// undici's Pool as a webhook sender: POSTs of ready batches, one request at a time a connection.
//   node undici_peer.mjs FOLDER_OF_NODE_MODULES PORT CONNECTIONS BATCH REQUESTS PAYLOAD_BYTES FORM
// FORM: how a batch is held ready. "strings": an array of hooks, which is joined for each request;
// "buffers": a whole body; "made": not at all, its hooks are made as text for each request.
// Prints one line of JSON.

import { createRequire } from 'node:module';

const [folder, port, connections, batch, requests, payloadBytes] =
  process.argv.slice(2, 8).map((text, i) => (i === 0 ? text : Number(text)));
const form = process.argv[8];
const { Pool } = createRequire(`${folder}/`)('undici');

function payload(index) {
  const text = `{"target":0,"sequence":${index},"text":"`;
  return text + 'x'.repeat(payloadBytes - text.length - 2) + '"}';
}

function makeHooks(first) {
  return Array.from({ length: batch }, (_, i) => payload(first + i));
}

const ready = [];
for (let i = 0; i < 64; i++) {
  const hooks = makeHooks(i * batch);
  ready.push(form === 'strings' ? hooks : Buffer.from(`[${hooks.join(',')}]`));
}

function nextBody(number) {
  if (form === 'buffers') return ready[number % ready.length];
  const hooks = form === 'strings' ? ready[number % ready.length] : makeHooks(number * batch);
  return `[${hooks.join(',')}]`;
}

const pool = new Pool(`http://127.0.0.1:${port}`, { connections, pipelining: 1 });
const headers = { 'content-type': 'application/json' };

async function send(count) {
  let left = count;
  async function sender() {
    while (left > 0) {
      const body = nextBody(--left);
      const answer = await pool.request({ path: '/t/0', method: 'POST', headers, body });
      if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
      await answer.body.dump();
    }
  }
  await Promise.all(Array.from({ length: connections }, sender));
}

// Until the compiler has seen the code.
await send(Math.ceil(requests / 5));
const cpu = process.cpuUsage();
const start = performance.now();
await send(requests);
const seconds = (performance.now() - start) / 1000;
const used = process.cpuUsage(cpu);
await pool.close();
console.log(JSON.stringify({
  hooks: requests * batch, seconds, cpu_s: (used.user + used.system) / 1e6,
}));
