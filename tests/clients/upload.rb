# Uploads a file with Ruby's Net::HTTP, and prints the response.
#
#     ruby upload.rb form|raw|chunked URL FILE
#
# Prints the status and the version in the first line, and the body after it. Exits with 0 if a
# whole response was read, otherwise with 1 and the error.

require "net/http"
require "openssl"
require "stringio"

TIMEOUT = 120
shape, url, file = ARGV
uri = URI(url)
request = Net::HTTP::Post.new(uri)
case shape
when "form"
  request.set_form([["photopicker", File.open(file, "rb")]], "multipart/form-data")
when "chunked"
  request["Transfer-Encoding"] = "chunked"
  request["Content-Type"] = "application/octet-stream"
  request.body_stream = File.open(file, "rb")
else
  request["Content-Type"] = "application/octet-stream"
  request.body = File.binread(file)
end
options = {
  use_ssl: uri.scheme == "https",
  verify_mode: OpenSSL::SSL::VERIFY_NONE,
  max_retries: 0,
  read_timeout: TIMEOUT,
  write_timeout: TIMEOUT,
}
begin
  response = Net::HTTP.start(uri.host, uri.port, **options) { |http| http.request(request) }
rescue SystemCallError, IOError, OpenSSL::SSL::SSLError, Net::HTTPBadResponse, Timeout::Error => error
  abort "#{error.class}: #{error.message}"
end
puts "#{response.code} over HTTP/#{response.http_version}"
puts response.body
