// Sends a file to the upload_form example, started with `--limit 4MiB --demo`, in a headless browser.
// Prints the seconds from the click to the refusal on the page, with the form's script and without.
//
//   node wan.mjs --url https://10.9.8.2:3000 --browser firefox --size 200000000
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { choose, sendAndRefuse, submit, text } from './scenarios/steps.mjs';
import { Stage, contains, equal } from './stage.mjs';

const WORDS = 'limit is 4 MiB';

const { values } = parseArgs({
  options: { url: { type: 'string' }, browser: { type: 'string' }, size: { type: 'string' } },
});
const folder = await mkdtemp(join(tmpdir(), 'wan-'));
const stage = new Stage({ url: values.url, browser: values.browser, folder });
try {
  const file = await sparse(Number(values.size));
  console.log('script', await seconds(withScript, file), 'bare', await seconds(withoutScript, file));
} finally {
  await stage.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** Creates a file that takes no space on the disk. */
async function sparse(size) {
  const path = join(folder, 'sparse.bin');
  const file = await open(path, 'w');
  await file.truncate(size);
  await file.close();
  return { path };
}

async function seconds(send, file) {
  const page = await stage.open({ script: send === withScript });
  await choose(page, file);
  if (send === withScript) await page.click('#anyway');
  const start = performance.now();
  await send(page);
  return ((performance.now() - start) / 1000).toFixed(1);
}

async function withScript(page) {
  contains('the refusal', await sendAndRefuse(page), WORDS);
}

async function withoutScript(page) {
  const response = await submit(page);
  equal('status', response.status(), 413);
  contains('the page', await text(page, 'main'), WORDS);
}
