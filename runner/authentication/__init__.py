"""How a call proves who it is: the DSL's authentication policies, with their credentials.

`policy` says what there is; the interpreter has filled in secrets by the time it comes here. `digest`, `discovery` and
`token_request` are pure: what is sent, and what is made of the answer. `tokens` keeps access tokens, and has new ones
fetched by whoever asks.

Nothing here opens a connection: what is sent goes through the caller's client, under its deadline and its address
policy. Credentials are in no representation and in no error.
"""
