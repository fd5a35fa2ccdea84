// Uploads a file and prints the response.
//
//	upload form|raw|chunked|expect 1|2 URL FILE
//
// Prints the status and the version in the first line, and the body after it. Exits with 0 if a
// whole response was read, otherwise with 1 and the error.
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"time"
)

const timeout = 120 * time.Second

// A reader without a length, which net/http sends with chunked coding.
type unsized struct{ io.Reader }

func main() {
	if err := upload(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func upload(shape, version, url, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	body, kind, err := encoded(shape, content)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(http.MethodPost, url, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", kind)
	transport := &http.Transport{
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2:     version == "2",
		ExpectContinueTimeout: time.Second,
	}
	if version == "1" {
		// A map that is not nil turns HTTP/2 off.
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	if shape == "expect" {
		request.Header.Set("Expect", "100-continue")
	}
	client := http.Client{Transport: transport, Timeout: timeout}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	fmt.Printf("%d over %s\n%s\n", response.StatusCode, response.Proto, text)
	return nil
}

func encoded(shape string, content []byte) (io.Reader, string, error) {
	switch shape {
	case "form":
		var form bytes.Buffer
		writer := multipart.NewWriter(&form)
		part, err := writer.CreateFormFile("photopicker", "a.bin")
		if err != nil {
			return nil, "", err
		}
		if _, err := part.Write(content); err != nil {
			return nil, "", err
		}
		err = writer.Close()
		return &form, writer.FormDataContentType(), err
	case "chunked":
		return unsized{bytes.NewReader(content)}, "application/octet-stream", nil
	default:
		return bytes.NewReader(content), "application/octet-stream", nil
	}
}
