"""Authentication of outbound calls by the DSL's authentication policies, with their credentials.

`policy` has the models of the policies; the interpreter has filled in the secrets before. `digest` is pure. `tokens`
caches access tokens, and fetches new ones through the client of the call that needs one.

Nothing here opens a connection: all requests are sent by the caller's client, under its deadline and its address
policy. No repr and no error contains a credential.
"""
