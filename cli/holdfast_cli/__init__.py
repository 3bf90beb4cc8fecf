"""The `holdfast` command: click commands and their rendering. Business rules live below it."""
