<?php
// Uploads a file and prints the response.
//
//     php upload.php curl|curl-h2|stream form|raw URL FILE
//
// Prints the status and the version in the first line, and the body after it. Exits with 0 if a
// whole response was read, otherwise with 1 and the error.

const TIMEOUT = 120;
[, $client, $shape, $url, $file] = $argv;
$type = 'application/octet-stream';
$content = file_get_contents($file);
if ($shape === 'form') {
    $boundary = 'a-boundary-that-is-in-no-file';
    $type = "multipart/form-data; boundary=$boundary";
    $content = "--$boundary\r\n"
        . "Content-Disposition: form-data; name=\"photopicker\"; filename=\"a.bin\"\r\n\r\n"
        . "$content\r\n--$boundary--\r\n";
}

function fail(string $words): never
{
    fwrite(STDERR, "$words\n");
    exit(1);
}

function by_curl(string $url, string $type, string $content, int $version): array
{
    $curl = curl_init($url);
    curl_setopt_array($curl, [
        CURLOPT_HTTP_VERSION => $version,
        CURLOPT_HTTPHEADER => ["Content-Type: $type", 'Expect:'],
        CURLOPT_POSTFIELDS => $content,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_SSL_VERIFYHOST => 0,
        CURLOPT_SSL_VERIFYPEER => false,
        CURLOPT_TIMEOUT => TIMEOUT,
    ]);
    $text = curl_exec($curl);
    if ($text === false) {
        fail(curl_error($curl));
    }
    $over = curl_getinfo($curl, CURLINFO_HTTP_VERSION) === CURL_HTTP_VERSION_2_0 ? '2' : '1.1';
    return [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), $over, $text];
}

function by_stream(string $url, string $type, string $content): array
{
    $context = stream_context_create([
        'http' => [
            'method' => 'POST',
            'protocol_version' => 1.1,
            'header' => "Content-Type: $type\r\nConnection: close",
            'content' => $content,
            'ignore_errors' => true,
            'timeout' => TIMEOUT,
        ],
        'ssl' => ['verify_peer' => false, 'verify_peer_name' => false],
    ]);
    $text = @file_get_contents($url, false, $context);
    if ($text === false || !isset($http_response_header[0])) {
        fail(error_get_last()['message'] ?? 'no response');
    }
    [, $status] = explode(' ', $http_response_header[0]);
    return [$status, '1.1', $text];
}

[$status, $version, $text] = match ($client) {
    'curl' => by_curl($url, $type, $content, CURL_HTTP_VERSION_1_1),
    'curl-h2' => by_curl($url, $type, $content, CURL_HTTP_VERSION_2TLS),
    'stream' => by_stream($url, $type, $content),
};
echo "$status over HTTP/$version\n$text\n";
