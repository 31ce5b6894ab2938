"""Input files that are not on the web yet: of this machine, and in object storage.

`local` reads and names them when a manifest is checked. `sending` makes of each what a service
can fetch, just before a request is sent: never earlier, for a signed link is a credential that
nobody keeps.
"""
