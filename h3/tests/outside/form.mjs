// Drives the upload_form example, started with `--tls --http3 --limit 4MiB`, with a real browser:
//
//   node form.mjs BROWSER PORT
//
// The browser comes over TCP, and switches to HTTP/3 by itself. Then it sends 20 MB with the form.
// Exits with 1, and the reason, unless the page shows the refusal.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { launch, protocol, within } from './launch.mjs';

const [name, port] = process.argv.slice(2);
const PATIENCE = 60_000;

const folder = await mkdtemp(join(tmpdir(), 'h3-form-'));
const hash = await keyHash(port);
const browser = await launch({ name, folder, port, hash, isForced: false });
try {
  await within(2 * PATIENCE, run());
} catch (error) {
  console.error(error.message ?? error);
  process.exitCode = 1;
} finally {
  await browser.close().catch(() => {});
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

async function run() {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  const versions = [];
  // A browser that knows of HTTP/3 tries it in the background at first.
  do {
    await page.goto(`https://localhost:${port}/`);
    versions.push(await protocol(page));
  } while (versions.at(-1) !== 'h3' && versions.length < 50);
  if (versions[0] === 'h3') throw new Error('the first request went over HTTP/3');
  if (versions.at(-1) !== 'h3') throw new Error(`it stays with ${versions}`);

  const file = join(folder, 'large.bin');
  await writeFile(file, Buffer.alloc(20_000_000));
  const input = await page.waitForSelector('input[type=file]');
  await input.uploadFile(file);
  await page.click('button[type=submit]');
  await page.waitForFunction(() => /too large/i.test(document.body.innerText));
  const uploads = await page.evaluate(() =>
    performance
      .getEntriesByType('resource')
      .concat(performance.getEntriesByType('navigation'))
      .map((entry) => entry.nextHopProtocol),
  );
  if (!uploads.includes('h3')) throw new Error(`the upload went over ${uploads}`);
  console.log(`${versions.length} pages until HTTP/3`);
}

/** Returns the SHA-256 of the server's public key, in base64. */
async function keyHash(port) {
  const options = { host: '127.0.0.1', port, servername: 'localhost', rejectUnauthorized: false };
  const socket = connect(options);
  await once(socket, 'secureConnect');
  const { publicKey } = socket.getPeerX509Certificate();
  socket.destroy();
  const key = publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('base64');
}
