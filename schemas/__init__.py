"""Every record, header and HTTP body of capistream. Imports nothing else of ours."""
