// The form without JavaScript.
import { contains, equal } from '../stage.mjs';
import { choose, submit, submitPlainly, text } from './steps.mjs';

export async function refusal(stage, status = 413) {
  const page = await stage.open({ script: false });
  await choose(page, await stage.file(20_000_000));
  const response = await submit(page);
  equal('status', response.status(), status);
  contains('the page', await text(page, 'main'), 'Your files were not uploaded');
  contains('the page', await text(page, 'main'), 'Upload too large: 19.1 MiB. The limit is 4 MiB.');

  const [back] = await Promise.all([page.waitForNavigation(), page.click('main a')]);
  equal('status of the form after going back', back.status(), 200);
  equal('forms there', (await page.$$('form#upload')).length, 1);
  return page;
}

/**
 * The form of docs/STORY.md. As a negative control, Firefox loses the response of the form without
 * this crate. Chromium mostly reads that response.
 */
export async function story(stage) {
  const page = await refusal(stage, 400);
  if (stage.browser === 'chromium') return;
  await page.goto(stage.plain);
  await choose(page, await stage.file(20_000_000));
  const outcome = await submitPlainly(page).then(() => 'a response', (error) => error.message);
  contains('the outcome without this crate', outcome, 'network error');
}

export async function upload(stage) {
  const page = await stage.open({ script: false });
  equal('controls that need scripts are hidden', (await page.$$('[data-script]:not([hidden])')).length, 0);
  const files = [
    { ...(await stage.file(1_000_000, 'one.bin')), shown: '976.6 KiB' },
    { ...(await stage.file(0, 'empty.bin')), shown: '0 B' },
  ];
  await choose(page, ...files);
  const response = await submit(page);
  equal('status', response.status(), 200);
  const seen = await text(page, '.files');
  for (const file of files) {
    for (const part of [file.name, file.shown, file.hash]) contains('the list', seen, part);
  }
}
