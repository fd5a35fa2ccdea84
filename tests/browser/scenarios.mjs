import * as plainForm from './scenarios/plain-form.mjs';
import * as scripted from './scenarios/scripted.mjs';
import * as names from './scenarios/names.mjs';
import * as looks from './scenarios/looks.mjs';
import * as proxied from './scenarios/proxied.mjs';

/** Every scenario by its name. All of them run in Chromium and in Firefox. */
export const scenarios = {
  'no-js-refusal': plainForm.refusal,
  'no-js-refusal-400': plainForm.story,
  'no-js-upload': plainForm.upload,
  'refusal': scripted.refusal,
  'check-before-sending': scripted.check,
  'exact-boundary': scripted.boundary,
  'progress': scripted.progress,
  'cancel': scripted.cancel,
  'broken-connection': scripted.broken,
  'responses-of-others': proxied.others,
  'smaller-limit-in-front': proxied.smallerLimit,
  'drag-and-drop': scripted.drop,
  'hostile-names': names.hostile,
  'accessible-light': (stage) => looks.accessible(stage, 'light'),
  'accessible-dark': (stage) => looks.accessible(stage, 'dark'),
  'screenshots': looks.screenshots,
};

/** The scenarios with the form behind an nginx that refuses uploads longer than 1 MiB. */
export const behindNginx = ['smaller-limit-in-front'];

/** The scenario with a form that refuses with 400, and with the same form without this crate. */
export const withStatus400 = 'no-js-refusal-400';

/** The scenarios that concern the connection. They run over HTTP/2, with TLS. */
export const overTls = ['no-js-refusal', 'no-js-upload', 'refusal', 'exact-boundary', 'cancel'];
