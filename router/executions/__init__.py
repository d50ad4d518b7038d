"""Reading executions for display: lists, details, links, task histories, with tokens masked."""
