// A web server with one dependency, so that `go mod download` has something to do.
package main

import (
	"fmt"
	"log"
	"net/http"

	"golang.org/x/net/html"
)

func main() {
	http.HandleFunc("/", func(writer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(writer, html.EscapeString("<compiled in another stage>"))
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
