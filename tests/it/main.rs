//! One binary for all tests that need a Redis.

mod cli;
mod command;
mod dead;
mod embedded;
mod engine_deliver;
mod engine_inspect;
mod engine_lost;
mod engine_register;
mod foreign;
mod http_access;
mod http_batch;
mod http_deadlines;
mod http_errors;
mod http_pull;
mod in_process;
mod promises;
mod recovery;
mod replay;
mod serve;
mod storms;
mod support;
mod trace;
mod trouble;
mod walk;
mod webhook;
mod webhook_command;
