package main

import "regexp"

// What may be a password in a text: what stands before the @ of a URI, and the parameters of one.
// Wrong calls are quoted as they were given, spaces and all.
var (
	userOfURI   = regexp.MustCompile(`(\w:/+)\S*@`)
	userInQuote = regexp.MustCompile(`(\w:/+)(?:\\.|[^"\\])*@`)
	passwordIs  = regexp.MustCompile(`(?i)(password=)[^&\s"']*`)
)

// withoutPasswords takes out of an error what may be a password: somebody may have put a URI
// where none belongs.
func withoutPasswords(err error, wrongCall bool) string {
	text, user := err.Error(), userOfURI
	if wrongCall {
		user = userInQuote
	}
	return passwordIs.ReplaceAllString(user.ReplaceAllString(text, "${1}***@"), "${1}***")
}
