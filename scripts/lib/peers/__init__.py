"""The parts of scripts/bench-peers.

- errors: why a peer is not measured, or a job has no figure
- install: brings what a peer needs, by apt, npm or cargo
- servers: the redis-server and the beanstalkd that are measured on
- driver: the programs that talk to a peer, and what is said to them
- jobs: register, drain and lateness
- measure: all jobs of a peer, its best settings, several runs
- overdue, bullmq, sidekiq, apalis, beanstalkd: one module for each that is measured, with its driver beside it
- report: the table and the JSON document
"""
