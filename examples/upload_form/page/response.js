// Reads the responses to an upload. The form's own are plain text. A proxy in front of it may also
// respond, with its own page or with an empty body. In that case the status explains what happened.

/** A line of the form's list: hash, size and name, separated by two spaces. */
const FILE = /^[0-9a-f]{64}  \d+ bytes  /;

/** The names in RFC 9110. Proxies send older ones, and HTTP/2 sends none. */
const TITLES = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  407: 'Proxy Authentication Required',
  408: 'Request Timeout',
  411: 'Length Required',
  413: 'Content Too Large',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

/** Returns the lines of the stored files, or null if the form stored none. */
export function storedFiles(request) {
  const lines = words(request).split('\n');
  return request.status === 200 && lines.every((line) => FILE.test(line)) ? lines : null;
}

/** Explains why the files were not uploaded, as far as the response says. */
export function explain(request) {
  const { status, statusText } = request;
  if (status >= 400 && words(request)) return words(request);
  return `${status} ${TITLES[status] ?? statusText}`.trim() + `. ${sentence(status)}`;
}

function sentence(status) {
  switch (status) {
    case 413:
      return 'The upload was refused before it reached this form: a proxy on the way has a smaller limit. Choose a smaller file, or send fewer files at once.';
    case 502:
    case 503:
    case 504:
      return 'A server on the way got no response from this form. It is not known whether the files were uploaded. Try again later.';
    default:
      return status >= 400 && status < 500
        ? 'The upload was refused before it reached this form.'
        : 'The response did not come from this form. It is not known whether the files were uploaded.';
  }
}

/** Returns the text of a response that is meant for people, otherwise an empty string. */
function words(request) {
  const [type] = (request.getResponseHeader('Content-Type') ?? '').split(';');
  const text = request.responseText.trim();
  const plain = type.trim().toLowerCase() === 'text/plain';
  // Some proxies send their HTML pages as plain text.
  return plain && !text.startsWith('<') ? text : '';
}
