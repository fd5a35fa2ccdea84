// The form with its script.
import { contains, equal } from '../stage.mjs';
import { LIMIT, choose, sendAndRefuse, sendAndStore, text, waitFor } from './steps.mjs';

/** Both numbers would read 4 MiB, so the exact ones are added. */
const OVER_BY_ONE = 'Upload too large: 4,194,305 bytes. The limit is 4 MiB (4,194,304 bytes).';

export async function refusal(stage) {
  const page = await stage.open();
  await choose(page, await stage.file(20_000_000));
  await page.click('#anyway');
  const words = await sendAndRefuse(page);
  contains('the refusal', words, 'limit is 4 MiB');
  equal('requests', page.uploads, 1);
  equal('role', await page.$eval('#refusal', (element) => element.role), 'alert');
  equal('element in focus', await page.evaluate(() => document.activeElement.id), 'refusal');
}

export async function check(stage) {
  const page = await stage.open();
  await choose(page, await stage.file(20_000_000));
  const words = await sendAndRefuse(page);
  contains('the words', words, 'Upload too large: 19.1 MiB. The limit is 4 MiB.');
  equal('requests', page.uploads, 0);
  equal('element in focus', await page.evaluate(() => document.activeElement.id), 'refusal');
}

export async function boundary(stage) {
  const page = await stage.open();
  const overhead = await page.evaluate(async () => {
    const { encode } = await import('/assets/multipart.js');
    return encode([['photopicker', new File([], 'fits.bin', { type: 'application/octet-stream' })]]).size;
  });
  const fits = await stage.file(LIMIT - overhead, 'fits.bin');
  await choose(page, fits);
  contains('the list', await sendAndStore(page), fits.hash);
  equal('requests', page.uploads, 1);

  await choose(page, await stage.file(LIMIT - overhead + 1, 'over.bin'));
  contains('the check', await sendAndRefuse(page), OVER_BY_ONE);
  equal('requests after the check', page.uploads, 1);

  await page.click('#anyway');
  contains('the server', await sendAndRefuse(page), OVER_BY_ONE);
  equal('requests in the end', page.uploads, 2);
}

export async function progress(stage) {
  const gate = await stage.gate();
  const page = await stage.open({ url: gate.url });
  await stage.slowDown(page);
  await page.evaluate(() => {
    window.values = [];
    const bar = document.getElementById('bar');
    const record = () => window.values.push({ value: bar.value, max: bar.max });
    new MutationObserver(record).observe(bar, { attributeFilter: ['value'] });
  });
  const file = await stage.file(3_000_000);
  await choose(page, file);
  gate.hold();
  await page.click('#send');
  await page.waitForFunction(() => document.getElementById('bar').value > 0);
  contains('the figures', await text(page, '#figures'), ' of 2.9 MiB');
  gate.open();
  contains('the list', await waitFor(page, '#stored-files'), file.hash);

  const values = await page.evaluate(() => window.values);
  const shown = values.map(({ value }) => value).join(', ');
  const grows = values.every(({ value }, i) => i === 0 || value >= values[i - 1].value);
  equal(`the values only grow (${shown})`, grows, true);
  const steps = new Set(values.map(({ value }) => value)).size;
  equal(`there are at least three (${shown})`, steps >= 3, true);
  const last = values.at(-1);
  equal('the last value is the whole body', last.value, last.max);
}

export async function cancel(stage) {
  const gate = await stage.gate();
  const page = await stage.open({ url: gate.url });
  const file = await stage.file(3_000_000);
  await choose(page, file);
  gate.hold();
  await page.click('#send');
  await page.waitForSelector('#cancel', { visible: true });
  await page.click('#cancel');
  await page.waitForSelector('#send', { visible: true });
  equal('the news', await text(page, '#news'), 'Cancelled. Your files were not uploaded.');
  equal('element in focus', await page.evaluate(() => document.activeElement.id), 'send');
  gate.open();
  contains('the list, sent again', await sendAndStore(page), file.hash);
}

export async function broken(stage) {
  const gate = await stage.gate();
  const page = await stage.open({ url: gate.url });
  await choose(page, await stage.file(3_000_000));
  gate.hold();
  await page.click('#send');
  await page.waitForSelector('#cancel', { visible: true });
  await gate.close();
  contains('the words', await waitFor(page, '#refusal'), 'was aborted');
  equal('the form can be sent again', await page.$eval('#send', (element) => element.hidden), false);
}

export async function drop(stage) {
  const page = await stage.open();
  const sent = await page.evaluate(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(['dropped'], 'dropped.txt', { type: 'text/plain' }));
    const event = (type) => new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer });
    const over = !document.querySelector('h1').dispatchEvent(event('dragover'));
    const marked = document.getElementById('upload').classList.contains('dragging');
    const dropped = !document.querySelector('h1').dispatchEvent(event('drop'));
    return { over, marked, dropped };
  });
  equal('dragging is accepted', sent.over, true);
  equal('the form shows it', sent.marked, true);
  equal('the drop is taken', sent.dropped, true);
  equal('what was chosen', await text(page, '#chosen'), '1 file, 7 bytes');
  // The hash of `dropped`.
  contains('the list', await sendAndStore(page), 'e7cd9c3ab5da1895f52abfece688c0f136a26c348f0619bdf724a9e1667b747f');
}
