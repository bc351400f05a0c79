"""The pages: the same values as the API, drawn by templates. A page never knows more than a route does."""
