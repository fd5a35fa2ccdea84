import { join } from 'node:path';
import axe from 'axe-core';
import { equal } from '../stage.mjs';
import { choose, sendAndRefuse, sendAndStore, submitPlainly } from './steps.mjs';

/** axe-core finds nothing on any page, in any state of the form. */
export async function accessible(stage, theme) {
  const large = await stage.file(20_000_000);
  const small = await stage.file(1000, 'small.bin');

  const page = await stage.open({ theme });
  const dark = await page.evaluate(() => matchMedia('(prefers-color-scheme: dark)').matches);
  equal('the theme is dark', dark, theme === 'dark');
  await audit(page, 'the form');
  await choose(page, large);
  await sendAndRefuse(page);
  await audit(page, 'the form, refusing');
  await choose(page, small);
  await sendAndStore(page);
  await audit(page, 'the form, with what was stored');

  // The responses as separate pages, sent without the script. axe-core itself needs scripts.
  await page.goto(stage.url);
  await choose(page, large);
  await submitPlainly(page);
  await audit(page, 'the page of a refusal');
  await page.goto(stage.url);
  await choose(page, small);
  await submitPlainly(page);
  await audit(page, 'the page of what was stored');
}

async function audit(page, where) {
  await page.evaluate(axe.source);
  const violations = await page.evaluate(async () => {
    const { violations } = await window.axe.run();
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.failureSummary).join('; ')}`);
  });
  equal(`what axe-core finds on ${where}`, violations.join('\n'), '');
}

export async function screenshots(stage) {
  const large = await stage.file(20_000_000, 'holiday.mov');
  const small = [await stage.file(1_482_113, 'harbour at dusk.jpg'), await stage.file(803_552, 'ferry.jpg')];
  for (const theme of ['light', 'dark']) {
    const page = await stage.open({ theme });
    const shoot = async (name) => {
      const main = await page.$('main');
      await main.screenshot({ path: join(stage.shots, `${name}-${theme}.png`) });
    };
    await shoot('form');

    await choose(page, large);
    await page.click('#anyway');
    await sendAndRefuse(page);
    await shoot('refusal');

    await page.goto(stage.url);
    await choose(page, ...small);
    await sendAndStore(page);
    await shoot('success');

    await page.goto(stage.url);
    await choose(page, large);
    await submitPlainly(page);
    await shoot('refusal-page');
  }
}
