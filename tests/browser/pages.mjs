// Sends a file with a plain HTML form a number of times, each time from a fresh profile of one
// headless browser. Prints how often the following page is the 413 response.
//
//     node pages.mjs --url https://127.0.0.1:3000 --browser firefox --file 20MB --tries 5
//
// The server must respond to GET `/`. The file goes to POST `/raw`.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { launch } from './browser.mjs';

/** The time limit for the upload and its response, in milliseconds. */
const TIME_LIMIT = 20_000;

const FORM = `<form method="post" action="/raw" enctype="multipart/form-data">
  <input type="file" name="photopicker"><button>Send</button>
</form>`;

const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    browser: { type: 'string' },
    file: { type: 'string' },
    tries: { type: 'string', default: '1' },
  },
});
const folder = await mkdtemp(join(tmpdir(), 'pages-'));
const browser = await launch(values.browser, join(folder, 'profile'), 'light');
try {
  let read = 0;
  for (let i = 0; i < Number(values.tries); i += 1) read += (await isRefused()) ? 1 : 0;
  console.log(read);
} finally {
  await browser.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** Returns whether an upload is refused. Contexts do not share connections. */
async function isRefused() {
  const context = await browser.createBrowserContext();
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(TIME_LIMIT);
    await page.goto(values.url);
    await page.setContent(FORM);
    await (await page.$('input')).uploadFile(values.file);
    await Promise.all([page.waitForNavigation(), page.click('button')]);
    const { url, status, protocol } = await page.evaluate(() => {
      const [{ responseStatus, nextHopProtocol }] = performance.getEntriesByType('navigation');
      return { url: location.href, status: responseStatus, protocol: nextHopProtocol };
    });
    return url === `${values.url}/raw` && status === 413 && protocol === 'h2';
  } catch (error) {
    console.error(error.message);
    return false;
  } finally {
    await context.close();
  }
}
