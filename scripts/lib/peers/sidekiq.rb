# frozen_string_literal: true

# The driver for Sidekiq; driver.py says what it is told and what it answers.

require "json"
require "sidekiq"
require "sidekiq/api"
require "sidekiq/launcher"
require "sidekiq/cli"

ROLE = ARGV[0]
SPEC = JSON.parse(ARGV[1])
SAY_EVERY_S = 0.02
CONCURRENCY = SPEC.fetch("concurrency", 1)
Sidekiq.options[:concurrency] = CONCURRENCY
SPARE_CONNECTIONS = 5

$stdout.sync = true
# This version of the redis gem warns of how this version of Sidekiq calls it, at every fetch: on stderr, and at a cost.
Redis.silence_deprecations = true
Sidekiq.logger.level = Logger::FATAL
# The driver in C, which its documentation advises for many jobs.
REDIS = {url: "redis://127.0.0.1:#{SPEC["port"]}/0", size: CONCURRENCY + SPARE_CONNECTIONS, driver: :hiredis}
Sidekiq.configure_client { |config| config.redis = REDIS }
Sidekiq.configure_server { |config| config.redis = REDIS }

def say(what)
  $stdout.puts(what.to_json)
end

def now
  Process.clock_gettime(Process::CLOCK_REALTIME)
end

# Counted without a lock, as a thread of Ruby is not interrupted within either call.
CALLS = []
DONE = []

class Lapse
  include Sidekiq::Worker

  def perform(_id, due_ms = nil)
    at = now
    CALLS << [due_ms, at * 1000] if due_ms
    DONE << at
  end
end

def share
  File.foreach(SPEC["deadlines"]).with_index.filter_map do |line, number|
    [format("order-%07x", number), line.to_i] if number % SPEC["shares"] == SPEC["share"]
  end
end

def put
  slices = share.each_slice(SPEC["batch"]).map do |some|
    {
      "class" => Lapse,
      "args" => some.map { |id, due_ms| SPEC["calls"] ? [id, due_ms] : [id] },
      "at" => some.map { |_, due_ms| due_ms / 1000.0 }
    }
  end
  Sidekiq.redis(&:ping)
  say(ready: true)
  $stdin.gets
  began = now
  slices.each { |jobs| Sidekiq::Client.push_bulk(jobs) }
  say(began: began, ended: now)
end

# Sidekiq lets up to five seconds pass before it looks for scheduled jobs for the first time, so that processes that were
# started together do not do it together. That is no part of what is measured.
class Sidekiq::Scheduled::Poller
  private def initial_wait
  end
end

def work
  Sidekiq.redis(&:ping)
  options = Sidekiq.options.merge(queues: ["default"], concurrency: CONCURRENCY, timeout: 5, strict: true)
  Sidekiq.options[:poll_interval_average] = SPEC["poll_s"]
  launcher = Sidekiq::Launcher.new(options)
  say(ready: true)
  $stdin.gets
  began = now
  launcher.run
  speaker = Thread.new do
    loop do
      sleep SAY_EVERY_S
      say(done: DONE.size)
    end
  end
  $stdin.read
  # Or it would speak in the midst of the last words.
  speaker.kill.join
  # There is no ack to wait for: the fetch takes the job out of Redis.
  say(began: began, last: DONE.last, calls: CALLS)
  exit!(0)
end

begin
  (ROLE == "put") ? put : work
rescue => error
  abort "#{error.class}: #{error.message}"
end
