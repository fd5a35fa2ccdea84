import { contains, equal } from '../stage.mjs';
import { choose, sendAndStore, submit, text } from './steps.mjs';

/** Names that files can have on disk, and how the server shows them. */
const ON_DISK = {
  '<script>window.hacked = 1<\\script>.txt': '<script>window.hacked = 1<\\script>.txt',
  'say "hi"; filename=x.txt': 'say %22hi%22; filename=x.txt',
  'two\nlines.txt': 'two%0Alines.txt',
  'Grüße 文件 🎈.txt': 'Grüße 文件 🎈.txt',
  '&amp;{{ 7 * 7 }}%s.txt': '&amp;{{ 7 * 7 }}%s.txt',
};

/** Names that only a script can give to a file. */
const SCRIPTED = {
  '../../x': '../../x',
  'nul\0.txt': 'nul%00.txt',
  'gpj.\u{202e}exe': 'gpj.\u{fffd}exe',
  ['long'.repeat(2560)]: `${'long'.repeat(30)}…`,
};

export async function hostile(stage) {
  const files = [];
  for (const name of Object.keys(ON_DISK)) files.push(await stage.file(1000, name));

  const page = await stage.open();
  await choose(page, ...files);
  await expectNames(page, await sendAndStore(page), Object.values(ON_DISK));

  await page.evaluate((names) => {
    const transfer = new DataTransfer();
    for (const name of names) transfer.items.add(new File(['content'], name));
    document.getElementById('files').files = transfer.files;
  }, Object.keys(SCRIPTED));
  await expectNames(page, await sendAndStore(page), Object.values(SCRIPTED));

  const bare = await stage.open({ script: false });
  await choose(bare, ...files);
  await submit(bare);
  await expectNames(bare, await text(bare, '.files'), Object.values(ON_DISK));
}

async function expectNames(page, list, names) {
  for (const name of names) contains('the list', list, name);
  equal('list items', (await page.$$('.files li')).length, names.length);
  equal('elements made of a name', (await page.$$('.files script')).length, 0);
  equal('scripts run from a name', await page.evaluate(() => 'hacked' in window), false);
}
