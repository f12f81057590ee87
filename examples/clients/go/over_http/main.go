// Registers a deadline over HTTP. Standard library only.
//
//	OVERDUE_URL=http://127.0.0.1:7700 QUEUE=orders go run main.go order-42
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

func main() {
	base := setting("OVERDUE_URL", "http://127.0.0.1:7700")
	queue := setting("QUEUE", "orders")
	body := strings.NewReader(`{"delay":"30m","payload":{"amount":"100.00"}}`)
	path := fmt.Sprintf("%s/v1/queues/%s/deadlines/%s", base, queue, url.PathEscape(os.Args[1]))
	request, err := http.NewRequest(http.MethodPut, path, body)
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token := os.Getenv("OVERDUE_TOKEN"); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	var result struct {
		DueAt  string `json:"due_at"`
		Detail string `json:"detail"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&result); err != nil {
		log.Fatal(err)
	}
	if answer.StatusCode >= 300 {
		log.Fatal(result.Detail)
	}
	fmt.Println(result.DueAt)
}

func setting(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
