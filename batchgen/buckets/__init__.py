"""Object storage: the one door to obstore and botocore, at S3, Google Cloud Storage and Azure.

Both are imported when a bucket is opened: most runs need neither. Credentials come from where
the tools of each service look for them, and never get into a message.
"""
