"""Who is asking: sessions, tokens, passwords, OIDC, throttling, and what each route asks for."""
