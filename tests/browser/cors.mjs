// Sends 20 MB with `fetch` from a page of one origin to another, in headless Chromium. Prints as
// JSON what the page's script learns: `{ status, text }`, or `{ error }`.
//
//   node cors.mjs --page http://127.0.0.1:3000 --to http://127.0.0.1:3001 [--type image/png]
//
// Without a type, the browser sends no preflight. With one, it does.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { launch } from './browser.mjs';

/** The time limit for the upload and its response, in milliseconds. */
const TIME_LIMIT = 60_000;

const { values } = parseArgs({
  options: { page: { type: 'string' }, to: { type: 'string' }, type: { type: 'string', default: '' } },
});
const folder = await mkdtemp(join(tmpdir(), 'cors-'));
const browser = await launch('chromium', join(folder, 'profile'), 'light');
try {
  const page = await browser.newPage();
  await page.goto(values.page);
  console.log(JSON.stringify(await page.evaluate(upload, values.to, values.type, TIME_LIMIT)));
} finally {
  await browser.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** Runs in the page. */
async function upload(url, type, patience) {
  const body = new Blob([new Uint8Array(20_000_000)], { type });
  try {
    const response = await fetch(url, { method: 'POST', body, signal: AbortSignal.timeout(patience) });
    return { status: response.status, text: await response.text() };
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
}
