//! One binary for all tests that need a Redis.

mod adopt;
mod cli;
mod command;
mod dead;
mod embedded;
mod engine_deliver;
mod engine_inspect;
mod engine_lost;
mod engine_register;
mod foreign;
mod in_process;
mod order_intake;
mod order_process;
mod order_race;
mod orders;
mod promises;
mod recovery;
mod replay;
mod serve;
mod storms;
mod support;
mod trouble;
mod walk;
mod webhook;
mod webhook_command;
