// Registers a deadline by plain ZADD, with go-redis v9.
//
//	REDIS_ADDRESS=127.0.0.1:6379 QUEUE=orders go run main.go order-42
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: setting("REDIS_ADDRESS", "127.0.0.1:6379")})
	prefix := "overdue:{" + setting("QUEUE", "orders") + "}:"
	due := time.Now().Add(30 * time.Minute).UnixMilli()
	// The payload before the ZADD.
	if err := client.HSet(ctx, prefix+"payload", os.Args[1], `{"amount":"100.00"}`).Err(); err != nil {
		log.Fatal(err)
	}
	if err := client.ZAdd(ctx, prefix+"scheduled", redis.Z{Score: float64(due), Member: os.Args[1]}).Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(due)
}

func setting(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}
