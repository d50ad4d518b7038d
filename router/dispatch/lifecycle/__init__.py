"""Changes that runners, operators and time make to executions.

- `journal_writer`: stores what runners report (journal entries, outcomes of attempts), and acknowledges it.
- `execution_commands`: cancels, suspends, resumes and resolves executions.
- `timers`: deadlines of runners, and executions that wait for a time.
- `withdrawal`: cleans up after executions that were removed from the core.
"""
