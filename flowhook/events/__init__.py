"""Events on their way in: IDs, keys computed at acceptance, CloudEvents, the input of workflows. No I/O."""
