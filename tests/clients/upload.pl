# Uploads a file and prints the response.
#
#     perl upload.pl HTTP::Tiny|LWP form|raw URL FILE
#
# Prints the status and the version in the first line, and the body after it. Exits with 0 if a
# whole response was read, otherwise with 1 and the error.

use strict;
use warnings;

my $TIMEOUT = 120;
my ($client, $shape, $url, $file) = @ARGV;

open(my $handle, '<:raw', $file) or die "$file: $!";
my $content = do { local $/; <$handle> };
my $type = 'application/octet-stream';
if ($shape eq 'form') {
    my $boundary = 'a-boundary-that-is-in-no-file';
    $type    = "multipart/form-data; boundary=$boundary";
    $content = "--$boundary\r\n"
        . "Content-Disposition: form-data; name=\"photopicker\"; filename=\"a.bin\"\r\n\r\n"
        . "$content\r\n--$boundary--\r\n";
}

# The clients report their own failures as a response: 599, and a warning in a header.
my ($status, $version, $text, $failed);
if ($client eq 'LWP') {
    require LWP::UserAgent;
    my $agent    = LWP::UserAgent->new(timeout => $TIMEOUT, ssl_opts => { verify_hostname => 0, SSL_verify_mode => 0 });
    my $response = $agent->post($url, 'Content-Type' => $type, Content => $content);
    ($status, $text) = ($response->code, $response->decoded_content);
    $version = $response->protocol // 'HTTP/1.1';
    $failed  = ($response->header('Client-Warning') // '') eq 'Internal response' || $response->header('Client-Aborted');
    $text    = $response->status_line . ' ' . ($response->header('Client-Aborted') // '') if $failed;
} else {
    require HTTP::Tiny;
    my $agent    = HTTP::Tiny->new(timeout => $TIMEOUT, verify_SSL => 0);
    my $response = $agent->post($url, { headers => { 'Content-Type' => $type }, content => $content });
    ($status, $version, $text) = ($response->{status}, $response->{protocol} // 'HTTP/1.1', $response->{content});
    $failed = $status == 599;
}
if ($failed) {
    print STDERR "$text\n";
    exit 1;
}
print "$status over $version\n$text\n";
