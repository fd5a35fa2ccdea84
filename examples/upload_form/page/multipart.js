/**
 * Encodes form fields as `multipart/form-data`, as browsers do, but with our own
 * boundary. The exact size of the whole body is therefore known before any of it
 * is sent. A Blob only refers to its files, so nothing is read here.
 */
export function encode(fields) {
  const boundary = `upload-form-${token()}`;
  const parts = [];
  for (const [name, value] of fields) {
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${quoted(name)}"`;
    if (value instanceof File) {
      const type = value.type || 'application/octet-stream';
      parts.push(`${head}; filename="${quoted(value.name)}"\r\nContent-Type: ${type}\r\n\r\n`, value);
    } else {
      parts.push(`${head}\r\n\r\n${value.replace(/\r\n|\r|\n/g, '\r\n')}`);
    }
    parts.push('\r\n');
  }
  parts.push(`--${boundary}--\r\n`);
  // A Blob's type is lowercased, hence the lowercase boundary.
  return new Blob(parts, { type: `multipart/form-data; boundary=${boundary}` });
}

/** Returns a random token. Pages over plain HTTP have no `crypto.randomUUID`. */
function token() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Escapes quotes and line ends as HTML does, and other characters forbidden in headers. */
function quoted(name) {
  return name.replace(/["\x00-\x1f\x7f]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}
