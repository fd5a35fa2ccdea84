// From a page of one origin, sends 20 MB to another with `fetch`, in headless Chromium,
// and prints what the page's script gets to know, as JSON: `{ status, text }`, or
// `{ error }`.
//
//   node cors.mjs --page http://127.0.0.1:3000 --to http://127.0.0.1:3001 [--type image/png]
//
// Without a type, the browser asks for no leave beforehand; with one, it sends a preflight.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { launch } from './browser.mjs';

/** For the upload and its answer, in milliseconds. */
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

/** In the page. */
async function upload(url, type, patience) {
  const body = new Blob([new Uint8Array(20_000_000)], { type });
  try {
    const response = await fetch(url, { method: 'POST', body, signal: AbortSignal.timeout(patience) });
    return { status: response.status, text: await response.text() };
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
}
