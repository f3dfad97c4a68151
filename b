--dry-run
--no-prune
--no-up
--prune
--quiet
services
