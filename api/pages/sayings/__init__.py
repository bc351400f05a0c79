"""Sentences of the core that pages show, as templates of the catalogues; `api.pages.sentences` finds and fills them.

One module for each place they come from. A placeholder in braces stands for a value; its name says what it may hold,
see `api.pages.sentences`. What an English sentence says is decided by the core; here is only its shape.
"""
